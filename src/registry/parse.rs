//! The YAML of a registry file as it stands there, right or wrong, in bounded memory.
//!
//! Only what is no YAML at all ends the parse. A value of the wrong kind, an unknown key, a key given twice
//! are kept as such, so that all mistakes of a file can be told together.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::node::{FieldList, Item, Node};

/// Most machines in one file. It is ten times what one gateway is built for, and keeps a small file that
/// repeats itself by aliases from filling the memory.
pub(super) const MAX_MACHINES: usize = 1_000_000;

/// Most unknown or repeated keys kept of one mapping: the file is refused after the first.
const MAX_STRANGE: usize = 8;

/// The document.
pub(super) type File = Node<IgnoredAny, RawFile>;
/// What stands under `machines`.
pub(super) type Machines = Node<MachineList, IgnoredAny>;
/// An item of `machines`.
pub(super) type Entry = Node<IgnoredAny, RawMachine>;
/// What stands under a key of a machine.
pub(super) type Field = Node<FieldList, IgnoredAny>;

/// The top of the file.
#[derive(Default)]
pub(super) struct RawFile {
    pub(super) machines: Option<Machines>,
    pub(super) strange: Vec<Strange>,
}

/// The items of `machines`, at most [`MAX_MACHINES`].
pub(super) struct MachineList(pub(super) Vec<Entry>);

/// One machine as written.
#[derive(Default)]
pub(super) struct RawMachine {
    fields: [Option<Field>; Key::ALL.len()],
    pub(super) strange: Vec<Strange>,
}

/// A key that has no business where it stands.
pub(super) enum Strange {
    Unknown(String),
    Repeated(&'static str),
}

/// The keys of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Id,
    Name,
    Vault,
    Owner,
    Credential,
    PublicKeys,
    Enabled,
    NotBefore,
    Expires,
}

impl Key {
    pub(super) const ALL: [Key; 9] = [
        Key::Id,
        Key::Name,
        Key::Vault,
        Key::Owner,
        Key::Credential,
        Key::PublicKeys,
        Key::Enabled,
        Key::NotBefore,
        Key::Expires,
    ];

    /// The key as spelled in the file.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Key::Id => "id",
            Key::Name => "name",
            Key::Vault => "vault",
            Key::Owner => "owner",
            Key::Credential => "credential",
            Key::PublicKeys => "public_keys",
            Key::Enabled => "enabled",
            Key::NotBefore => "not_before",
            Key::Expires => "expires",
        }
    }
}

impl RawMachine {
    /// What stands under `key`.
    pub(super) fn get(&self, key: Key) -> Option<&Field> {
        self.fields[key as usize].as_ref()
    }
}

/// Reads one YAML document.
///
/// # Errors
///
/// What `serde_yaml` says of text that is not YAML, of a second document, of aliases that multiply, of
/// nesting over its limit, of anchors that do not exist; and more than [`MAX_MACHINES`].
pub(super) fn parse(text: &str) -> Result<File, serde_yaml::Error> {
    serde_yaml::from_str(text)
}

impl<'de> Deserialize<'de> for MachineList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = MachineList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of machines")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<MachineList, A::Error> {
                let mut machines = Vec::new();
                while let Some(machine) = items.next_element()? {
                    if machines.len() == MAX_MACHINES {
                        let text = format!("more than {MAX_MACHINES} machines in one registry");
                        return Err(A::Error::custom(text));
                    }
                    machines.push(machine);
                }
                Ok(MachineList(machines))
            }
        }
        deserializer.deserialize_seq(Items)
    }
}

impl<'de> Deserialize<'de> for RawFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(KeysVisitor(PhantomData))
    }
}

impl<'de> Deserialize<'de> for RawMachine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(KeysVisitor(PhantomData))
    }
}

/// A mapping of which the keys are known: each is taken once, and what is left over is remembered as strange.
trait Keys: Default {
    /// Takes the value of `key`, or tells why not, leaving the value.
    fn take<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        entries: &mut A,
    ) -> Result<Option<Strange>, A::Error>;

    fn strange(&mut self) -> &mut Vec<Strange>;
}

impl Keys for RawFile {
    fn take<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        entries: &mut A,
    ) -> Result<Option<Strange>, A::Error> {
        if key != "machines" {
            return Ok(Some(Strange::Unknown(key.to_owned())));
        }
        if self.machines.is_some() {
            return Ok(Some(Strange::Repeated("machines")));
        }
        self.machines = Some(entries.next_value()?);
        Ok(None)
    }

    fn strange(&mut self) -> &mut Vec<Strange> {
        &mut self.strange
    }
}

impl Keys for RawMachine {
    fn take<'de, A: MapAccess<'de>>(
        &mut self,
        key: &str,
        entries: &mut A,
    ) -> Result<Option<Strange>, A::Error> {
        let Some(known) = Key::ALL.into_iter().find(|known| known.as_str() == key) else {
            return Ok(Some(Strange::Unknown(key.to_owned())));
        };
        let field = &mut self.fields[known as usize];
        if field.is_some() {
            return Ok(Some(Strange::Repeated(known.as_str())));
        }
        *field = Some(entries.next_value()?);
        Ok(None)
    }

    fn strange(&mut self) -> &mut Vec<Strange> {
        &mut self.strange
    }
}

struct KeysVisitor<K>(PhantomData<K>);

impl<'de, K: Keys> Visitor<'de> for KeysVisitor<K> {
    type Value = K;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<K, A::Error> {
        let mut taken = K::default();
        while let Some(key) = entries.next_key::<Item>()? {
            let left = match key {
                Node::Text(key) => taken.take(&key, &mut entries)?,
                _ => Some(Strange::Unknown("a key that is not a word".to_owned())),
            };
            if let Some(strange) = left {
                entries.next_value::<IgnoredAny>()?;
                if taken.strange().len() < MAX_STRANGE {
                    taken.strange().push(strange);
                }
            }
        }
        Ok(taken)
    }
}
