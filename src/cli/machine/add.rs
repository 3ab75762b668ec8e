//! `countersign machine add`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::Open;
use crate::auth::identity::{Machine, MachineId, PublicKey};
use crate::cli::Failure;
use crate::config::instant;
use crate::registry::edit::{self, NewMachine};
use crate::registry::key_format;

/// The machine to add.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Example:
  countersign machine add --registry machines.yaml --name web-1 --vault vault_prod \\
      --public-key \"$(countersign keygen --out key.pem)\"
  countersign machine add --registry machines.yaml --id ci.eu-1 --public-key @ci.pub")]
pub(in crate::cli) struct AddArgs {
    /// What it sends as X-Machine-Id; a random UUID if not given
    #[arg(long)]
    pub id: Option<String>,
    /// X-Machine-Name to the backend
    #[arg(long)]
    pub name: Option<String>,
    /// X-Machine-Vault to the backend
    #[arg(long)]
    pub vault: Option<String>,
    /// X-Machine-Owner to the backend
    #[arg(long)]
    pub owner: Option<String>,
    /// The credential its requests carry, by its name in the configuration
    #[arg(long, value_name = "NAME")]
    pub credential: Option<String>,
    /// Not to act before this instant (RFC 3339) or date
    #[arg(long, value_name = "WHEN")]
    pub not_before: Option<String>,
    /// Not to act from this instant (RFC 3339) or date on
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<String>,
    /// Its public key: base64, PEM, or "ssh-ed25519 .."; or @ and a file with one. Up to four times
    #[arg(
        long = "public-key",
        value_name = "KEY|@FILE",
        required = true,
        allow_hyphen_values = true
    )]
    pub public_keys: Vec<String>,
}

/// Adds it; its id.
pub(super) fn add(args: &AddArgs, registry: &Path) -> Result<MachineId, Failure> {
    let id = match &args.id {
        Some(text) => MachineId::parse(text).ok_or_else(|| {
            Failure::Usage("--id: an id is 1 to 128 of the characters A-Z a-z 0-9 . _ -".into())
        })?,
        None => random_id()?,
    };
    let keys = args
        .public_keys
        .iter()
        .map(|text| public_key(text))
        .collect::<Result<Vec<PublicKey>, Failure>>()?;
    let not_before = instant("--not-before", args.not_before.as_deref())?;
    let expires = instant("--expires", args.expires.as_deref())?;

    let open = Open::new(registry)?;
    if open.before.find(id.as_str()).is_some() {
        return Err(Failure::Operation(format!(
            "{}: there is a machine {id} already",
            registry.display()
        )));
    }
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
        },
    );
    let expected = Machine {
        id: id.clone(),
        name: args.name.as_deref().map(Into::into),
        vault: args.vault.as_deref().map(Into::into),
        owner: args.owner.as_deref().map(Into::into),
        credential: args.credential.as_deref().map(Into::into),
        keys: keys.into(),
        enabled: true,
        not_before,
        expires,
    };
    open.put(text, id.as_str(), Some(&expected))?;
    Ok(id)
}

fn public_key(argument: &str) -> Result<PublicKey, Failure> {
    // Not the argument itself: it may be a private key, pasted by mistake.
    let refuse = |why: String| Failure::Usage(format!("--public-key: {why}"));
    let bytes = match argument.strip_prefix('@') {
        None => key_format::parse(argument),
        Some(file) => {
            let text = read_key_file(file).map_err(|error| refuse(format!("{file}: {error}")))?;
            key_format::parse(text.trim_end_matches(['\r', '\n']))
        }
    };
    let bytes = bytes.map_err(|error| refuse(error.to_string()))?;
    PublicKey::from_bytes(&bytes).map_err(|error| refuse(error.to_string()))
}

/// One byte more than a key may have is enough to see that it is none.
fn read_key_file(path: &str) -> std::io::Result<String> {
    let mut text = String::new();
    let limit = key_format::MAX_LEN as u64 + 1;
    File::open(path)?.take(limit).read_to_string(&mut text)?;
    Ok(text)
}

fn instant(option: &str, text: Option<&str>) -> Result<Option<u64>, Failure> {
    let Some(text) = text else { return Ok(None) };
    match instant::to_unix_seconds(text) {
        Some(seconds) => Ok(Some(seconds)),
        None => Err(Failure::Usage(format!(
            "{option}: it must be {}",
            instant::EXPECTED
        ))),
    }
}

/// A random UUID (RFC 9562, section 5.4).
fn random_id() -> Result<MachineId, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::Operation(format!("no random numbers to be had: {error}")))?;
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
        .ok_or_else(|| Failure::Operation("the random id is not an id".into()))
}
