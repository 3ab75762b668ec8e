//! `countersign machine add`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bulk;
use super::registry_edit::RegistryEdit;
use crate::cli::command_error::CommandError;
use crate::config::{RegistrySource, instant};
use crate::registry::edit::{self, NewMachine};
use crate::registry::new_machines::random_id;
use crate::registry::{EditedFile, PolicyTerms, combine, key_format};
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
  countersign machine add --registry machines.yaml --new-id ci.eu-1 --public-key @ci.pub
  countersign machine add --registry machines.yaml --from fleet.csv")]
pub(in crate::cli) struct AddArgs {
    /// The id under which the registry knows the machine; default: a random UUID
    #[arg(long = "new-id", alias = "id", value_name = "ID")]
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
        required_unless_present = "from",
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
    /// Add the machines of this file, all or none; - is standard input. Their fields are those of the
    /// registry, as YAML, as JSON lines, or as CSV with a header (`public_key` at least; `;` between
    /// items of a list). Or the file has lines of authorized_keys, with the id as the comment
    #[arg(long, value_name = "FILE|-", conflicts_with_all = SINGLE)]
    pub from: Option<PathBuf>,
    /// The file that gets the machine, by its name in a registry that is a directory
    #[arg(long, value_name = "NAME")]
    pub into: Option<String>,
    /// The rate limit of the machine, in requests a minute
    #[arg(long, value_name = "REQUESTS")]
    pub per_minute: Option<u64>,
}

/// The options that describe one machine.
const SINGLE: [&str; 12] = [
    "id",
    "name",
    "vault",
    "owner",
    "credential",
    "not_before",
    "expires",
    "public_keys",
    "groups",
    "allow",
    "cidrs",
    "per_minute",
];

/// Adds the machine, or those of a file, and gives their ids. With a file `--machine-id` is an older
/// spelling of `--new-id`.
pub(super) fn add(
    args: &AddArgs,
    machine_id: Option<&str>,
    registry: &RegistrySource,
) -> Result<Vec<MachineId>, CommandError> {
    if let (RegistrySource::File(path), Some(_)) = (registry, &args.into) {
        return Err(CommandError::Usage(format!(
            "--into: the registry {} is one file, not a directory of files",
            path.display()
        )));
    }
    let file = EditedFile::Named(args.into.as_deref());
    match &args.from {
        Some(_) if machine_id.is_some() => Err(CommandError::Usage(
            "--machine-id: cannot stand beside --from, whose machines have their own ids".into(),
        )),
        Some(from) => bulk::add(from, registry, file),
        None => Ok(vec![add_one(args, machine_id, registry, file)?]),
    }
}

fn add_one(
    args: &AddArgs,
    machine_id: Option<&str>,
    registry: &RegistrySource,
    file: EditedFile<'_>,
) -> Result<MachineId, CommandError> {
    let id = match (args.id.as_deref(), machine_id) {
        (Some(_), Some(_)) => {
            return Err(CommandError::Usage(
                "--machine-id: cannot stand beside --new-id; name the machine with --new-id".into(),
            ));
        }
        (id, older) => id.or(older),
    };
    let id = match id {
        Some(text) => MachineId::parse(text).ok_or_else(|| {
            CommandError::Usage(
                "--new-id: an id is 1 to 128 of the characters A-Z a-z 0-9 . _ -".into(),
            )
        })?,
        None => random_id().map_err(CommandError::Operation)?,
    };
    let keys = args
        .public_keys
        .iter()
        .map(|text| public_key("--public-key", text))
        .collect::<Result<Vec<PublicKey>, CommandError>>()?;
    let not_before = instant("--not-before", args.not_before.as_deref())?;
    let expires = instant("--expires", args.expires.as_deref())?;

    let terms = terms(args)?;

    let open = RegistryEdit::new(registry, file)?;
    let refuse = |why: String| CommandError::Operation(format!("{}: {why}", open.path().display()));
    if open.before().find(id.as_str()).is_some() {
        return Err(refuse(format!(
            "the machine {id} exists already. Name another id with --new-id"
        )));
    }
    let is_alike = |known: &&Arc<Machine>| known.id.as_str().eq_ignore_ascii_case(id.as_str());
    if let Some(known) = open.before().machines().find(is_alike) {
        return Err(refuse(format!(
            "the id {id} differs from that of the machine {} in case only, and OpenBao takes the two \
             for one: with a `login` no gateway loads such a registry. Name another id with \
             --new-id",
            known.id
        )));
    }
    if let Some(gone) = open.before().removed().iter().find(|gone| gone.id == id) {
        return Err(refuse(format!(
            "the machine {id} was removed on {}, and old records name it. Choose another id, or \
             take its entry out of `removed` if this is the same machine",
            instant::to_text(gone.at)
        )));
    }
    let known = open.before().groups();
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
        open.text(),
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
