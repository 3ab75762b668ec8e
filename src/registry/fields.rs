//! One machine after the other: are the values under its keys what they must be?

use std::collections::HashMap;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use super::key_format;
use super::mistakes::quoted;
use super::node::Node;
use super::parse::{Entry, Field, Key, RawMachine, Strange};
use super::report::Report;
use crate::auth::identity::{Machine, MachineId};
use crate::config::instant;
use crate::config::is_credential_name;

/// Longest `name`, `vault` and `owner`, in bytes. They become headers.
const MAX_LABEL: usize = 128;

/// What the machines of a file come to before their keys are checked as points of the curve. It is only
/// complete if the report has no mistakes.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) drafts: Vec<Draft>,
    pub(super) claims: Vec<Claim>,
}

/// A machine that lacks nothing but its keys.
pub(super) struct Draft {
    pub(super) machine: Machine,
    /// Its keys among the claims.
    pub(super) claims: Range<usize>,
}

/// A machine's claim to a public key.
pub(super) struct Claim {
    pub(super) position: usize,
    /// The place in `public_keys`.
    pub(super) index: usize,
    pub(super) key: [u8; 32],
}

/// Checks everything that needs no elliptic curve.
pub(super) fn check(entries: &[Entry], report: &mut Report<'_>) -> Fields {
    let mut checker = Checker {
        report,
        texts: HashSet::new(),
        ids: HashMap::with_capacity(entries.len()),
        fields: Fields::default(),
    };
    for (position, entry) in entries.iter().enumerate() {
        match entry {
            Node::Mapping(raw) => checker.machine(position, raw),
            _ => checker.report.machine(
                position,
                "it must be a mapping with the keys id and public_keys".into(),
            ),
        }
    }
    checker.fields
}

struct Checker<'c, 'f> {
    report: &'c mut Report<'f>,
    /// Vaults, owners and credentials, of which thousands of machines share a few.
    texts: HashSet<Arc<str>>,
    ids: HashMap<MachineId, usize>,
    fields: Fields,
}

impl Checker<'_, '_> {
    fn machine(&mut self, position: usize, raw: &RawMachine) {
        self.strange(position, &raw.strange);
        let id = self.id(position, raw);
        let name = self.label(position, raw, Key::Name).map(Arc::from);
        let vault = self.label(position, raw, Key::Vault);
        let vault = vault.map(|text| self.intern(text));
        let owner = self.label(position, raw, Key::Owner);
        let owner = owner.map(|text| self.intern(text));
        let credential = self.credential(position, raw);
        let claims = self.public_keys(position, raw);
        let enabled = self.enabled(position, raw);
        let not_before = self.instant(position, raw, Key::NotBefore);
        let expires = self.instant(position, raw, Key::Expires);
        if let (Some(not_before), Some(expires)) = (not_before, expires)
            && expires <= not_before
        {
            let text = "it is not after not_before, so the machine could never act";
            self.report.field(position, Key::Expires, text.into());
        }
        if let Some(id) = id {
            let machine = Machine {
                id,
                name,
                vault,
                owner,
                credential,
                keys: Box::default(),
                enabled,
                not_before,
                expires,
            };
            self.fields.drafts.push(Draft { machine, claims });
        }
    }

    fn strange(&mut self, position: usize, strange: &[Strange]) {
        for strange in strange {
            let text = describe(strange, &Key::ALL.map(Key::as_str).join(", "));
            self.report.machine(position, text);
        }
    }

    fn id(&mut self, position: usize, raw: &RawMachine) -> Option<MachineId> {
        let Some(field) = raw.get(Key::Id) else {
            let text = "`id` is missing; write what the machine sends as X-Machine-Id";
            self.report.machine(position, text.into());
            return None;
        };
        let text = self.text(position, Key::Id, field)?;
        let Some(id) = MachineId::parse(text) else {
            let rule = format!(
                "an id is 1 to {} of the characters A-Z a-z 0-9 . _ -",
                MachineId::MAX_LEN
            );
            self.report.field(position, Key::Id, rule);
            return None;
        };
        if let Some(first) = self.ids.insert(id.clone(), position) {
            let text = format!(
                "the id is used twice; {} has it already",
                self.report.whereabouts(first)
            );
            self.report.field(position, Key::Id, text);
        }
        Some(id)
    }

    fn label<'r>(&mut self, position: usize, raw: &'r RawMachine, key: Key) -> Option<&'r str> {
        let text = self.text(position, key, raw.get(key)?)?;
        let visible = text.bytes().all(|b| (0x20..=0x7e).contains(&b));
        let trimmed = text.trim_matches(' ').len() == text.len();
        if (1..=MAX_LABEL).contains(&text.len()) && visible && trimmed {
            return Some(text);
        }
        let rule = format!(
            "it becomes a header, so it must be 1 to {MAX_LABEL} visible ASCII characters, without a space \
             at either end"
        );
        self.report.field(position, key, rule);
        None
    }

    fn credential(&mut self, position: usize, raw: &RawMachine) -> Option<Arc<str>> {
        let name = self.text(position, Key::Credential, raw.get(Key::Credential)?)?;
        if is_credential_name(name) {
            return Some(self.intern(name));
        }
        // Not repeated: somebody may have written the secret itself here.
        let rule = "it must be the name of one of the `credentials` of the configuration, [a-z0-9_-]{1,64}";
        self.report.field(position, Key::Credential, rule.into());
        None
    }

    fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&text));
        text
    }

    fn public_keys(&mut self, position: usize, raw: &RawMachine) -> Range<usize> {
        let start = self.fields.claims.len();
        let list = match raw.get(Key::PublicKeys) {
            Some(Node::List(list)) if list.count > 0 => list,
            Some(Node::List(_)) | None => {
                let text =
                    "a machine needs at least one key; to lock it out write `enabled: false`";
                self.report.field(position, Key::PublicKeys, text.into());
                return start..start;
            }
            Some(_) => {
                let text = "it must be a list: public_keys: [\"..\"]";
                self.report.field(position, Key::PublicKeys, text.into());
                return start..start;
            }
        };
        if list.count > Machine::MAX_KEYS {
            let text = format!(
                "{} keys are too many; a machine may have {}",
                list.count,
                Machine::MAX_KEYS
            );
            self.report.field(position, Key::PublicKeys, text);
        }
        for (index, item) in list.items.iter().enumerate() {
            let parsed = match item {
                Node::Text(text) => key_format::parse(text),
                Node::LongText => Err(key_format::KeyTextError::TooLong),
                _ => Err(key_format::KeyTextError::NotAKey),
            };
            match parsed {
                Ok(key) => self.fields.claims.push(Claim {
                    position,
                    index,
                    key,
                }),
                Err(error) => self.report.public_key(position, index, error.to_string()),
            }
        }
        start..self.fields.claims.len()
    }

    fn enabled(&mut self, position: usize, raw: &RawMachine) -> bool {
        match raw.get(Key::Enabled) {
            None => true,
            Some(Node::Bool(enabled)) => *enabled,
            Some(_) => {
                let text = "it must be true or false, without quotes";
                self.report.field(position, Key::Enabled, text.into());
                false
            }
        }
    }

    fn instant(&mut self, position: usize, raw: &RawMachine, key: Key) -> Option<u64> {
        let text = self.text(position, key, raw.get(key)?)?;
        let seconds = instant::to_unix_seconds(text);
        if seconds.is_none() {
            let expected = format!("it must be {}", instant::EXPECTED);
            self.report.field(position, key, expected);
        }
        seconds
    }

    fn text<'r>(&mut self, position: usize, key: Key, field: &'r Field) -> Option<&'r str> {
        let problem = match field {
            Node::Text(text) => return Some(text),
            Node::Nothing => "there is nothing after the colon; write a value or remove the key",
            Node::Bool(_) | Node::Number => {
                "YAML reads it as a number or a truth value; put it in quotes"
            }
            Node::LongText => "it is far too long",
            Node::Tagged | Node::List(_) | Node::Mapping(_) => "it must be a text",
        };
        self.report.field(position, key, problem.into());
        None
    }
}

/// What is wrong with a key that has no business where it stands.
pub(super) fn describe(strange: &Strange, known: &str) -> String {
    match strange {
        Strange::Unknown(key) => format!(
            "the key {} is not known here, and what it asks for would not be done; known: {known}",
            quoted(key)
        ),
        Strange::Repeated(key) => format!("the key {key:?} is given twice; remove one"),
    }
}
