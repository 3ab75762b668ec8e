//! `countersign machine add`.

use std::path::Path;
use std::sync::Arc;

use super::registry_edit::RegistryEdit;
use crate::cli::command_error::CommandError;
use crate::config::instant;
use crate::registry::edit::{self, NewMachine};
use crate::registry::{PolicyTerms, combine, key_format};
use countersign_client::file;
use countersign_core::identity::{Machine, MachineId, PublicKey};
use countersign_core::policy::rate::Rate;
use countersign_core::policy::rule::Rule;
use countersign_core::policy::{List, network};

/// The machine to add.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Example:
  countersign machine add --registry machines.yaml --name web-1 --vault vault_prod \\
      --public-key \"$(countersign keygen --out key.pem)\" --allow 'read /v1/secret/data/web/**'
  countersign machine add --registry machines.yaml --machine-id ci.eu-1 --public-key @ci.pub")]
pub(in crate::cli) struct AddArgs {
    /// The id under which the registry knows the machine; default: a random UUID
    #[arg(long = "machine-id", alias = "id", value_name = "ID")]
    pub id: Option<String>,
    /// The machine's name, sent to the backend as X-Machine-Name
    #[arg(long)]
    pub name: Option<String>,
    /// The machine's vault, sent to the backend as X-Machine-Vault
    #[arg(long)]
    pub vault: Option<String>,
    /// The machine's owner, sent to the backend as X-Machine-Owner
    #[arg(long)]
    pub owner: Option<String>,
    /// The backend credential of its requests, by its name in the configuration
    #[arg(long, value_name = "NAME")]
    pub credential: Option<String>,
    /// Refuse the machine before this time (RFC 3339, or a date)
    #[arg(long, value_name = "WHEN")]
    pub not_before: Option<String>,
    /// Refuse the machine from this time on (RFC 3339, or a date)
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<String>,
    /// A public key: base64, PEM, or "ssh-ed25519 ..", or @FILE. Repeat it for up to four keys
    #[arg(
        long = "public-key",
        value_name = "KEY|@FILE",
        required = true,
        allow_hyphen_values = true
    )]
    pub public_keys: Vec<String>,
    /// A group of the machine, by its name in the registry. Repeat it for several
    #[arg(long = "group", value_name = "NAME")]
    pub groups: Vec<String>,
    /// A rule that permits requests; all others are refused. Repeat it for several
    #[arg(long, value_name = "RULE")]
    pub allow: Vec<String>,
    /// A network that the machine may connect from. Repeat it for several
    #[arg(long = "cidr", value_name = "NETWORK")]
    pub cidrs: Vec<String>,
    /// The rate limit of the machine, in requests a minute
    #[arg(long, value_name = "REQUESTS")]
    pub per_minute: Option<u64>,
}

/// Adds the machine and gives its id.
pub(super) fn add(args: &AddArgs, registry: &Path) -> Result<MachineId, CommandError> {
    let id = match &args.id {
        Some(text) => MachineId::parse(text).ok_or_else(|| {
            CommandError::Usage(
                "--machine-id: an id is 1 to 128 of the characters A-Z a-z 0-9 . _ -".into(),
            )
        })?,
        None => random_id()?,
    };
    let keys = args
        .public_keys
        .iter()
        .map(|text| public_key("--public-key", text))
        .collect::<Result<Vec<PublicKey>, CommandError>>()?;
    let not_before = instant("--not-before", args.not_before.as_deref())?;
    let expires = instant("--expires", args.expires.as_deref())?;

    let terms = terms(args)?;

    let open = RegistryEdit::new(registry)?;
    let refuse = |why: String| CommandError::Operation(format!("{}: {why}", registry.display()));
    if open.before.find(id.as_str()).is_some() {
        return Err(refuse(format!(
            "the machine {id} exists already. Name another id with --machine-id"
        )));
    }
    let is_alike = |known: &&Arc<Machine>| known.id.as_str().eq_ignore_ascii_case(id.as_str());
    if let Some(known) = open.before.machines().find(is_alike) {
        return Err(refuse(format!(
            "the id {id} differs from that of the machine {} in case only, and OpenBao takes the two \
             for one: with a `login` no gateway loads such a registry. Name another id with \
             --machine-id",
            known.id
        )));
    }
    if let Some(gone) = open.before.removed().iter().find(|gone| gone.id == id) {
        return Err(refuse(format!(
            "the machine {id} was removed on {}, and old records name it. Choose another id, or \
             take its entry out of `removed` if this is the same machine",
            instant::to_text(gone.at)
        )));
    }
    let known = open.before.groups();
    let groups = args.groups.iter().map(|name| {
        let group = known.iter().find(|group| *group.name == **name);
        group
            .map(|group| &group.terms)
            .ok_or_else(|| refuse(format!("there is no group {name:?}. Add it under `groups`")))
    });
    let groups = groups.collect::<Result<Vec<&PolicyTerms>, CommandError>>()?;
    let policy = combine(&terms, &groups).map(Arc::new);
    let bytes: Vec<[u8; 32]> = keys.iter().map(|key| *key.as_bytes()).collect();
    let text = edit::add(
        open.held.text(),
        &NewMachine {
            id: id.as_str(),
            name: args.name.as_deref(),
            vault: args.vault.as_deref(),
            owner: args.owner.as_deref(),
            credential: args.credential.as_deref(),
            keys: &bytes,
            not_before,
            expires,
            groups: &args.groups,
            allow: &args.allow,
            cidrs: &args.cidrs,
            rate: terms.rate.map(Rate::per_minute),
        },
    );
    let expected = Machine {
        id: id.clone(),
        name: args.name.as_deref().map(Into::into),
        vault: args.vault.as_deref().map(Into::into),
        owner: args.owner.as_deref().map(Into::into),
        credential: args.credential.as_deref().map(Into::into),
        keys: keys.into_iter().map(Into::into).collect(),
        enabled: true,
        not_before,
        expires,
        policy,
        groups: args.groups.iter().map(|name| Arc::from(&**name)).collect(),
    };
    open.put(text, id.as_str(), Some(&expected))?;
    Ok(id)
}

/// The policy of the machine itself, without its groups.
fn terms(args: &AddArgs) -> Result<PolicyTerms, CommandError> {
    let rate = |count| {
        Rate::new(count).ok_or_else(|| {
            let range = format!("it must be between 1 and {}", Rate::MAX);
            CommandError::Usage(format!("--per-minute: {range}"))
        })
    };
    Ok(PolicyTerms {
        allow: list("--allow", &args.allow, |text| {
            Rule::parse(text).map_err(|error| error.to_string())
        })?,
        cidrs: list("--cidr", &args.cidrs, |text| {
            network::parse(text).map_err(|error| error.to_string())
        })?,
        rate: args.per_minute.map(rate).transpose()?,
    })
}

fn list<T>(
    option: &str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<Arc<List<T>>>, CommandError> {
    let items = texts.iter().map(|text| parse(text));
    let items: Box<[T]> = (items.collect::<Result<_, _>>())
        .map_err(|error| CommandError::Usage(format!("{option}: {error}")))?;
    Ok((!items.is_empty()).then(|| Arc::new(List { group: None, items })))
}

/// The public key that an option holds, or that the file holds which it names.
pub(super) fn public_key(option: &str, argument: &str) -> Result<PublicKey, CommandError> {
    // Not the argument itself: it may be a private key, pasted by mistake.
    let refuse = |why: String| CommandError::Usage(format!("{option}: {why}"));
    let bytes = match argument.strip_prefix('@') {
        None => key_format::parse(argument),
        Some(file) => {
            let text = read_key_file(Path::new(file)).map_err(refuse)?;
            key_format::parse(text.trim_start_matches('\u{feff}').trim_end())
        }
    };
    let bytes = bytes.map_err(|error| refuse(error.to_string()))?;
    PublicKey::from_bytes(&bytes).map_err(|error| refuse(error.to_string()))
}

fn read_key_file(path: &Path) -> Result<String, String> {
    let bytes = file::read(path, key_format::MAX_LEN).map_err(|fault| fault.of(path))?;
    String::from_utf8(bytes).map_err(|_| format!("{} is not text", path.display()))
}

pub(super) fn instant(option: &str, text: Option<&str>) -> Result<Option<u64>, CommandError> {
    let Some(text) = text else { return Ok(None) };
    match instant::to_unix_seconds(text) {
        Some(seconds) => Ok(Some(seconds)),
        None => Err(CommandError::Usage(format!(
            "{option}: it must be {}",
            instant::EXPECTED
        ))),
    }
}

/// A random UUID (RFC 9562, section 5.4).
fn random_id() -> Result<MachineId, CommandError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        CommandError::Operation(format!("the system gives no random numbers: {error}"))
    })?;
    let mut number = u128::from_be_bytes(bytes);
    number = number & !(0xf << 76) | (4 << 76);
    number = number & !(0b11 << 62) | (0b10 << 62);
    let hex = format!("{number:032x}");
    let groups = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    MachineId::parse(&groups.join("-"))
        .ok_or_else(|| CommandError::Operation("the random id is not valid; this is a bug".into()))
}
