//! `countersign token`: creates, lists and revokes enrolment tokens at a gateway.

use std::io::{self, Write};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::command_error::CommandError;
use super::gateway_args::GatewayArgs;
use super::management_client::ManagementClient;
use super::terminal::{say, visible};

/// Create enrolment tokens, list them and revoke them
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    after_help = "Example:
  countersign token create --gateway https://gw:8443 --machine-id alice --key alice.pem \\
      --name web-fleet --vault vault_prod --max-uses 10 --expires-in 1h > token"
)]
pub(super) struct TokenArgs {
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(subcommand)]
    action: TokenAction,
}

/// An action on tokens.
#[derive(Debug, clap::Subcommand)]
enum TokenAction {
    /// Create a token and print it: it is shown here and nowhere else
    #[command(after_help = "Example:
  countersign token create --gateway https://gw:8443 --machine-id alice --key alice.pem \\
      --name web-fleet --vault vault_prod --max-uses 10 --expires-in 1h > token")]
    Create(Box<CreateArgs>),
    /// List all tokens, without their secret
    #[command(after_help = "Example:
  countersign token list --gateway https://gw:8443 --machine-id alice --key alice.pem")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token: no machine enrols with it any more
    #[command(after_help = "Example:
  countersign token revoke --gateway https://gw:8443 --machine-id alice --key alice.pem TOKEN_ID")]
    Revoke {
        /// The id of the token
        id: String,
    },
}

/// The terms of the token.
#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// The name of the token, for people
    #[arg(long)]
    name: String,
    /// The vault of its machines
    #[arg(long)]
    vault: String,
    /// How many machines it may enrol; default: 1
    #[arg(long, value_name = "COUNT")]
    max_uses: Option<u32>,
    /// How long it is valid, such as 1h; default: 10m
    #[arg(long, value_name = "TIME")]
    expires_in: Option<String>,
    /// The owner of its machines
    #[arg(long)]
    owner: Option<String>,
    /// A group of its machines. Repeat it for several
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// The backend credential of its machines, by its name in the configuration
    #[arg(long, value_name = "NAME")]
    credential: Option<String>,
    /// How long its machines are valid, such as 7d; default: without an end
    #[arg(long, value_name = "TIME")]
    machine_expires_in: Option<String>,
    /// A network that its machines may connect from. Repeat it for several
    #[arg(long = "machine-cidr", value_name = "NETWORK")]
    machine_cidrs: Vec<String>,
    /// Let its machines renew themselves before their end
    #[arg(long)]
    may_renew: bool,
    /// The names that its machines may have; * at the end is a prefix
    #[arg(long, value_name = "PATTERN")]
    name_pattern: Option<String>,
    /// The host names that its machines may tell; * at the end is a prefix
    #[arg(long, value_name = "PATTERN")]
    hostname_pattern: Option<String>,
    /// A network that it may be used from. Repeat it for several
    #[arg(long = "cidr", value_name = "NETWORK")]
    cidrs: Vec<String>,
    /// Let a machine enrol without proving its key, as stock SikkerKey clients do
    #[arg(long)]
    no_proof: bool,
    /// Print the id too, as JSON
    #[arg(long)]
    json: bool,
}

/// The answer to a created token.
#[derive(Deserialize)]
struct CreatedToken {
    id: String,
    token: String,
}

/// A token of the list.
#[derive(Deserialize)]
struct ListedToken {
    id: String,
    max_uses: u32,
    uses: u32,
    expires: String,
    by: String,
    revoked: Option<String>,
    terms: Value,
}

/// Runs the action.
///
/// # Errors
///
/// [`CommandError::Usage`]: no gateway is named. [`CommandError::Operation`]: it refuses, or does
/// not answer.
pub(super) fn run(args: &TokenArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let client = args.gateway.client()?.ok_or_else(|| {
        CommandError::Usage(
            "no gateway: name it with --gateway URL, --machine-id ID and --key FILE".into(),
        )
    })?;
    match &args.action {
        TokenAction::Create(create) => create_token(create, &client, out),
        TokenAction::List { json } => list(&client, *json, out),
        TokenAction::Revoke { id } => {
            let is_id = |id: &str| countersign_core::identity::MachineId::is_valid(id.as_bytes());
            if !is_id(id) {
                return Err(CommandError::Usage(
                    "the id of a token is that which `countersign token list` shows".into(),
                ));
            }
            client.call("DELETE", &format!("/enrolment-tokens/{id}"), None)?;
            say(out, &format!("{id}: revoked\n"))
        }
    }
}

fn create_token(
    args: &CreateArgs,
    client: &ManagementClient,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let answer = client.call("POST", "/enrolment-tokens", Some(&args.terms()))?;
    let created: CreatedToken = serde_json::from_value(answer)
        .map_err(|_| CommandError::Operation("the gateway's answer has no token".into()))?;
    let CreatedToken { id, token } = created;
    let token = Zeroizing::new(token);
    if args.json {
        let fields = json!({ "id": id, "token": &**token });
        return say(out, &format!("{fields}\n"));
    }
    let _ = writeln!(io::stderr(), "the token {} is shown once:", visible(&id));
    say(out, &format!("{}\n", &**token))
}

impl CreateArgs {
    /// The body of the call; the gateway knows the defaults.
    fn terms(&self) -> Value {
        let mut machine = Map::new();
        let mut terms = Map::new();
        fn put(fields: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
            if let Some(value) = value {
                fields.insert(key.to_owned(), value.into());
            }
        }
        fn some(list: &[String]) -> Option<Vec<String>> {
            (!list.is_empty()).then(|| list.to_vec())
        }
        put(&mut machine, "owner", self.owner.clone());
        put(&mut machine, "groups", some(&self.groups));
        put(&mut machine, "credential", self.credential.clone());
        put(&mut machine, "expires_in", self.machine_expires_in.clone());
        put(&mut machine, "cidrs", some(&self.machine_cidrs));
        put(&mut machine, "may_renew", self.may_renew.then_some(true));
        put(&mut terms, "name", Some(self.name.clone()));
        put(&mut terms, "vault", Some(self.vault.clone()));
        put(&mut terms, "max_uses", self.max_uses);
        put(&mut terms, "expires_in", self.expires_in.clone());
        put(
            &mut terms,
            "machine",
            (!machine.is_empty()).then_some(machine),
        );
        put(&mut terms, "name_pattern", self.name_pattern.clone());
        put(
            &mut terms,
            "hostname_pattern",
            self.hostname_pattern.clone(),
        );
        put(&mut terms, "cidrs", some(&self.cidrs));
        put(&mut terms, "require_proof", self.no_proof.then_some(false));
        Value::Object(terms)
    }
}

fn list(client: &ManagementClient, json: bool, out: &mut dyn Write) -> Result<(), CommandError> {
    let answer = client.get("/enrolment-tokens")?;
    if json {
        let text = serde_json::to_string_pretty(&answer["tokens"]).unwrap_or_default();
        return say(out, &(text + "\n"));
    }
    let tokens: Vec<ListedToken> = serde_json::from_value(answer["tokens"].clone())
        .map_err(|_| CommandError::Operation("the gateway's answer is no list of tokens".into()))?;
    let headings = ["ID", "NAME", "VAULT", "USES", "EXPIRES", "STATE", "BY"];
    let mut rows = vec![headings.map(str::to_owned)];
    rows.extend(tokens.iter().map(ListedToken::row));
    say(out, &table(&rows))
}

impl ListedToken {
    fn row(&self) -> [String; 7] {
        let term = |key: &str| visible(self.terms[key].as_str().unwrap_or("-"));
        let state = match (&self.revoked, self.uses < self.max_uses) {
            (Some(_), _) => "revoked",
            (None, true) => "open",
            (None, false) => "used up",
        };
        [
            visible(&self.id),
            term("name"),
            term("vault"),
            format!("{}/{}", self.uses, self.max_uses),
            visible(&self.expires),
            state.to_owned(),
            visible(&self.by),
        ]
    }
}

/// Columns as wide as their widest cell; every cell is ASCII.
fn table(rows: &[[String; 7]]) -> String {
    let widths: [usize; 7] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(widths);
        let line: String = cells
            .map(|(cell, width)| format!("{cell:width$}  "))
            .collect();
        line.trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::enrolment::TokenTerms;
    use clap::Parser;

    #[derive(Parser)]
    struct TokenCommandLine {
        #[command(flatten)]
        args: CreateArgs,
    }

    fn terms(options: &[&str]) -> Value {
        let common = ["token", "--name", "n", "--vault", "v"];
        let all = common.iter().chain(options);
        TokenCommandLine::try_parse_from(all).unwrap().args.terms()
    }

    #[test]
    fn without_options_the_gateway_chooses() {
        assert_eq!(terms(&[]), json!({"name": "n", "vault": "v"}));
    }

    #[test]
    fn every_term_of_the_gateway_has_an_option() {
        let all = terms(&[
            "--max-uses=10",
            "--expires-in=1h",
            "--owner=team-a",
            "--group=web",
            "--credential=ro",
            "--machine-expires-in=1d",
            "--machine-cidr=10.0.0.0/8",
            "--may-renew",
            "--name-pattern=web-*",
            "--hostname-pattern=web-*",
            "--cidr=192.0.2.0/24",
            "--no-proof",
        ]);
        // The gateway reads it as it was written: nothing is left to a default.
        assert_eq!(TokenTerms::parse(&all).unwrap().to_json(), all);
    }

    #[test]
    fn a_token_of_the_list_tells_its_state() {
        let token = |uses: u32, revoked: Option<&str>| ListedToken {
            id: "tok_1".into(),
            max_uses: 2,
            uses,
            expires: "2027-01-01T00:00:00Z".into(),
            by: "alice\u{1b}".into(),
            revoked: revoked.map(str::to_owned),
            terms: json!({"name": "n", "vault": "v"}),
        };
        let state = |uses, revoked| token(uses, revoked).row()[5].clone();
        assert_eq!(state(1, None), "open");
        assert_eq!(state(2, None), "used up");
        assert_eq!(state(0, Some("2027-01-01T00:00:00Z")), "revoked");
        assert!(!token(0, None).row()[6].contains('\u{1b}'));
    }
}
