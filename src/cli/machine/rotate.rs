//! `countersign machine rotate`.

use std::io::Write;

use super::add::{instant, public_key};
use super::registry_edit::RegistryEdit;
use crate::cli::command_error::CommandError;
use crate::cli::terminal::say;
use crate::config::{RegistrySource, instant};
use crate::management::overlap;
use crate::registry::EditedFile;
use crate::registry::edit::{self, NewKey};
use countersign_core::identity::{Machine, MachineKey};
use countersign_core::validity::Validity;

/// The key to add, and the end of the others.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  countersign machine rotate --registry machines.yaml web-1 --new-key @new.pub --overlap 7d

All keys are good during the overlap: move the machine to the new one in that time. The metric
countersign_machine_key_last_used_timestamp_seconds, and `machine.key` in the audit log, show the key
that it uses. After the overlap, requests signed with an old key get 403 machine_expired.")]
pub(in crate::cli) struct RotateArgs {
    /// The id of the machine
    pub id: String,
    /// The new public key: base64, PEM, or "ssh-ed25519 ..", or @FILE
    #[arg(long, value_name = "KEY|@FILE", allow_hyphen_values = true)]
    pub new_key: String,
    /// How long the present keys stay valid, such as 7d or 12h; a key that expires earlier keeps
    /// its date
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = overlap::parse)]
    pub overlap: u64,
    /// Refuse the new key before this time (RFC 3339, or a date)
    #[arg(long, value_name = "WHEN")]
    pub not_before: Option<String>,
}

/// Adds the key, at `now` (Unix seconds).
pub(super) fn rotate(
    args: &RotateArgs,
    registry: &RegistrySource,
    now: u64,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let new = public_key("--new-key", &args.new_key)?;
    let not_before = instant("--not-before", args.not_before.as_deref())?;
    let open = RegistryEdit::new(registry, EditedFile::Of(&args.id))?;
    let machine = open.machine(&args.id)?;
    let refuse = |why: &str| {
        CommandError::Operation(format!("{}: {} {why}", open.path().display(), args.id))
    };
    if machine.keys.iter().any(|key| key.public == new) {
        return Err(refuse(
            "has this key already. Give another key with --new-key",
        ));
    }
    if machine.keys.len() == Machine::MAX_KEYS {
        return Err(refuse(
            "has the greatest number of keys. Remove an unused key from the file first",
        ));
    }
    let end = now.saturating_add(args.overlap);
    let mut keys: Vec<MachineKey> = machine.keys.iter().map(|key| ending(*key, end)).collect();
    keys.push(MachineKey {
        public: new,
        validity: Validity::new(not_before, None).unwrap_or(Validity::ALWAYS),
    });
    if let Some(begins) = not_before.filter(|begins| *begins > now) {
        let holds = |keys: &[MachineKey], at| keys.iter().any(|key| key.validity.holds(at));
        let old = &keys[..keys.len() - 1];
        if holds(&machine.keys, now) && !holds(old, begins - 1) {
            return Err(refuse(
                "would have no valid key before its new one begins. Give a longer --overlap, or an \
                 earlier --not-before",
            ));
        }
    }
    let lines: Vec<NewKey> = (keys.iter())
        .map(|key| NewKey {
            key: *key.public.as_bytes(),
            validity: key.validity,
            changed: !machine.keys.contains(key),
        })
        .collect();
    let expected = Machine {
        keys: keys.into(),
        ..machine.clone()
    };
    let mut said = format!("{}: added the key {}\n", args.id, new.fingerprint());
    for key in &expected.keys[..expected.keys.len() - 1] {
        let until = key.validity.not_after().map(instant::to_text);
        let until = until.unwrap_or_else(|| "it is removed".into());
        said += &format!(
            "{}: {} is good until {until}\n",
            args.id,
            key.public.fingerprint()
        );
    }
    let text = edit::rotate(open.text(), &args.id, &lines);
    open.put(text, &args.id, Some(&expected))?;
    say(out, &said)
}

/// The key with this end, if it has no earlier one. One that would begin after it is another key of
/// the future, and stays.
fn ending(key: MachineKey, end: u64) -> MachineKey {
    let (first, last) = (key.validity.not_before(), key.validity.not_after());
    let end = last.map_or(end, |last| last.min(end));
    MachineKey {
        validity: Validity::new(first, Some(end)).unwrap_or(key.validity),
        ..key
    }
}
