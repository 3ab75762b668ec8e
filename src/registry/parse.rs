//! The YAML of a registry file as it stands there, right or wrong, in bounded memory.
//!
//! Only what is no YAML at all ends the parse. A value of the wrong kind, an unknown key, a key given twice
//! are kept as such, so that all mistakes of a file can be told together.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::load::MAX_FILE;
use super::node::{FieldList, Item, Node, Small, Weight};

/// Most machines in one file, and most groups and removed machines. It is ten times what one gateway is built
/// for, and keeps a small file that repeats itself by aliases from filling the memory.
pub(super) const MAX_ENTRIES: usize = 1_000_000;

/// Most bytes that one list comes to. No file without aliases does, where none may have more than a quarter of
/// it.
const MAX_WEIGHT: usize = 4 * MAX_FILE as usize;

/// Most unknown or repeated keys kept of one mapping: the file is refused after the first.
const MAX_STRANGE: usize = 8;

/// The document.
pub(super) type File = Node<IgnoredAny, RawFile>;
/// What stands under a key of the document.
pub(super) type Entries = Node<EntryList, IgnoredAny>;
/// An item of such a list.
pub(super) type Entry = Node<IgnoredAny, RawEntry>;
/// What stands under a key of an entry.
pub(super) type Field = Node<FieldList, Small>;

/// A list of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Section {
    Machines,
    Groups,
    Removed,
}

impl Section {
    pub(super) const ALL: [Section; 3] = [Section::Machines, Section::Groups, Section::Removed];

    /// The key in the document.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Section::Machines => "machines",
            Section::Groups => "groups",
            Section::Removed => "removed",
        }
    }

    /// The keys that its entries may have.
    pub(super) const fn keys(self) -> &'static [Key] {
        match self {
            Section::Machines => &[
                Key::Id,
                Key::Name,
                Key::Vault,
                Key::Owner,
                Key::Credential,
                Key::PublicKeys,
                Key::Enabled,
                Key::NotBefore,
                Key::Expires,
                Key::Groups,
                Key::Allow,
                Key::Cidrs,
                Key::Rate,
            ],
            Section::Groups => &[Key::Name, Key::Allow, Key::Cidrs, Key::Rate],
            Section::Removed => &[Key::Id, Key::PublicKeys, Key::At],
        }
    }
}

/// The top of the file.
#[derive(Default)]
pub(super) struct RawFile {
    pub(super) sections: [Option<Entries>; Section::ALL.len()],
    pub(super) strange: Vec<Strange>,
}

/// The items of a section, at most [`MAX_ENTRIES`].
pub(super) struct EntryList(pub(super) Vec<Entry>);

/// One entry as written.
#[derive(Default)]
pub(super) struct RawEntry {
    fields: [Option<Field>; Key::ALL.len()],
    pub(super) strange: Vec<Strange>,
}

impl Weight for RawEntry {
    fn weight(&self) -> usize {
        self.fields.iter().flatten().map(Weight::weight).sum()
    }
}

/// A key that has no business where it stands.
pub(super) enum Strange {
    Unknown(String),
    Repeated(&'static str),
}

/// The keys of entries.
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
    Groups,
    Allow,
    Cidrs,
    Rate,
    At,
}

impl Key {
    pub(super) const ALL: [Key; 14] = [
        Key::Id,
        Key::Name,
        Key::Vault,
        Key::Owner,
        Key::Credential,
        Key::PublicKeys,
        Key::Enabled,
        Key::NotBefore,
        Key::Expires,
        Key::Groups,
        Key::Allow,
        Key::Cidrs,
        Key::Rate,
        Key::At,
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
            Key::Groups => "groups",
            Key::Allow => "allow",
            Key::Cidrs => "cidrs",
            Key::Rate => "rate",
            Key::At => "at",
        }
    }
}

impl RawEntry {
    /// What stands under `key`.
    pub(super) fn get(&self, key: Key) -> Option<&Field> {
        self.fields[key as usize].as_ref()
    }

    /// The keys that it has and that entries of its section do not.
    pub(super) fn misplaced(&self, section: Section) -> impl Iterator<Item = Key> {
        let here = move |key: &Key| !section.keys().contains(key) && self.get(*key).is_some();
        Key::ALL.into_iter().filter(here)
    }
}

/// Reads one YAML document.
///
/// # Errors
///
/// What `serde_yaml` says of text that is not YAML, of a second document, of aliases that multiply, of
/// nesting over its limit, of anchors that do not exist; and more than [`MAX_ENTRIES`].
pub(super) fn parse(text: &str) -> Result<File, serde_yaml::Error> {
    serde_yaml::from_str(text)
}

impl<'de> Deserialize<'de> for EntryList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = EntryList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<EntryList, A::Error> {
                let (mut entries, mut weight) = (Vec::new(), 0);
                while let Some(entry) = items.next_element::<Entry>()? {
                    if entries.len() == MAX_ENTRIES {
                        let text = format!("more than {MAX_ENTRIES} entries in one list");
                        return Err(A::Error::custom(text));
                    }
                    weight += entry.weight();
                    if weight > MAX_WEIGHT {
                        let text = "it repeats itself by aliases without end; put what machines share into groups";
                        return Err(A::Error::custom(text));
                    }
                    entries.push(entry);
                }
                Ok(EntryList(entries))
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

impl<'de> Deserialize<'de> for RawEntry {
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
        let known = Section::ALL.into_iter().find(|known| known.as_str() == key);
        let Some(section) = known else {
            return Ok(Some(Strange::Unknown(key.to_owned())));
        };
        let list = &mut self.sections[section as usize];
        if list.is_some() {
            return Ok(Some(Strange::Repeated(section.as_str())));
        }
        *list = Some(entries.next_value()?);
        Ok(None)
    }

    fn strange(&mut self) -> &mut Vec<Strange> {
        &mut self.strange
    }
}

impl Keys for RawEntry {
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
