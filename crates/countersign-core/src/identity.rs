//! Machines: the id, the public keys, and the record that the registry holds.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::policy::Policy;
use super::refusal::Refusal;
use super::validity::Validity;

mod public_key;

pub use public_key::{Fingerprint, KeyError, PublicKey};

/// A machine id, the value of `X-Machine-Id`: `[A-Za-z0-9._-]{1,128}`, compared byte for byte.
#[derive(Clone)]
pub struct MachineId(IdBytes);

/// Most ids are at most as long as a UUID. Such an id is stored inline, which saves a lookup one
/// memory access.
#[derive(Clone)]
enum IdBytes {
    Short(u8, [u8; SHORT]),
    Long(Arc<str>),
}

/// Longest id stored inline, in bytes. With its length and the tag of the enum it takes five
/// machine words.
const SHORT: usize = 38;

impl MachineId {
    /// Longest id accepted, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Parses an id. It fails closed: `None` for anything outside the grammar. It does not trim or
    /// fold case.
    pub fn parse(text: &str) -> Option<MachineId> {
        if !Self::is_valid(text.as_bytes()) {
            return None;
        }
        let mut bytes = [0; SHORT];
        let Some(buffer) = bytes.get_mut(..text.len()) else {
            return Some(MachineId(IdBytes::Long(text.into())));
        };
        buffer.copy_from_slice(text.as_bytes());
        let len = u8::try_from(text.len()).ok()?;
        Some(MachineId(IdBytes::Short(len, bytes)))
    }

    /// Whether `bytes` are a machine id.
    pub fn is_valid(bytes: &[u8]) -> bool {
        (1..=Self::MAX_LEN).contains(&bytes.len())
            && bytes
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    }

    /// The id as sent.
    pub fn as_str(&self) -> &str {
        // The grammar is ASCII, so this is always text.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The bytes of the id as sent.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            IdBytes::Short(len, bytes) => &bytes[..usize::from(*len)],
            IdBytes::Long(text) => text.as_bytes(),
        }
    }
}

impl PartialEq for MachineId {
    fn eq(&self, other: &MachineId) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for MachineId {}

impl PartialOrd for MachineId {
    fn partial_cmp(&self, other: &MachineId) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for MachineId {
    fn cmp(&self, other: &MachineId) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

/// Equal to the hash of the text, as [`Borrow`](std::borrow::Borrow) requires.
impl Hash for MachineId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl std::borrow::Borrow<str> for MachineId {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One machine of the registry. Only the registry makes these, never a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The id that the machine signs with.
    pub id: MachineId,
    /// `X-Machine-Name` to the backend: visible ASCII, at most 128 bytes.
    pub name: Option<Arc<str>>,
    /// `X-Machine-Vault` to the backend: visible ASCII, at most 128 bytes.
    pub vault: Option<Arc<str>>,
    /// `X-Machine-Owner` to the backend: visible ASCII, at most 128 bytes.
    pub owner: Option<Arc<str>>,
    /// The name of the credential that the gateway adds for the backend, in place of the
    /// upstream's.
    pub credential: Option<Arc<str>>,
    /// The keys that the machine may sign with: 1 to [`Machine::MAX_KEYS`].
    pub keys: Box<[MachineKey]>,
    /// `false` refuses every request of the machine with `machine_disabled`.
    pub enabled: bool,
    /// First Unix second of validity; earlier requests are refused with `machine_expired`.
    pub not_before: Option<u64>,
    /// First Unix second after validity; from then on requests are refused with `machine_expired`.
    pub expires: Option<u64>,
    /// The allowed requests; machines may share a policy. `None` allows every request that the
    /// routes take, and the backend decides.
    pub policy: Option<Arc<Policy>>,
    /// The names of the groups that the machine is in, in the order of its entry; machines may
    /// share the list.
    pub groups: Arc<[Arc<str>]>,
}

/// One of a machine's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MachineKey {
    /// The key.
    pub public: PublicKey,
    /// When the key is valid; outside it, requests are refused with `machine_expired`.
    pub validity: Validity,
}

impl From<PublicKey> for MachineKey {
    /// A key without a limit of validity.
    fn from(public: PublicKey) -> MachineKey {
        MachineKey {
            public,
            validity: Validity::ALWAYS,
        }
    }
}

impl Machine {
    /// Most keys of one machine. A request that fits none of them costs one signature check per
    /// key.
    pub const MAX_KEYS: usize = 4;

    /// Longest label of a machine, in bytes.
    pub const MAX_LABEL: usize = 128;

    /// Whether `text` may be a name, a vault or an owner. They become headers: visible ASCII, with
    /// spaces only inside.
    pub fn is_label(text: &str) -> bool {
        let is_visible = text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
        let is_trimmed = text.trim_matches(' ').len() == text.len();
        (1..=Self::MAX_LABEL).contains(&text.len()) && is_visible && is_trimmed
    }

    /// Checks whether the machine may act at `now`, in Unix seconds, with one of its keys. It fails
    /// closed.
    ///
    /// # Errors
    ///
    /// [`Refusal::MachineDisabled`]; [`Refusal::MachineExpired`] if the machine or the key is
    /// outside its validity.
    pub fn may_act(&self, key: &MachineKey, now: u64) -> Result<(), Refusal> {
        if !self.enabled {
            return Err(Refusal::MachineDisabled);
        }
        let begun = self.not_before.is_none_or(|first| first <= now);
        let ended = self.expires.is_some_and(|end| now >= end);
        match begun && !ended && key.validity.holds(now) {
            true => Ok(()),
            false => Err(Refusal::MachineExpired),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_grammar_are_ids_and_print_back() {
        for text in [
            "a",
            "A-Z_0.9",
            "...",
            "-",
            &"x".repeat(38),
            &"x".repeat(39),
            &"x".repeat(128),
        ] {
            let id = MachineId::parse(text).unwrap();
            assert_eq!((id.as_str(), id.to_string().as_str()), (text, text));
        }
    }

    #[test]
    fn everything_else_is_no_id() {
        for text in [
            "", " a", "a ", "a b", "a:b", "a/b", "a\0", "a\n", "é", "a+b", "a@b", "а",
        ] {
            assert_eq!(MachineId::parse(text), None, "{text:?}");
        }
        assert_eq!(MachineId::parse(&"x".repeat(129)), None);
    }

    #[test]
    fn every_byte_is_judged_as_the_grammar_has_it() {
        const ALPHABET: &[u8] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
        for byte in 0..=255 {
            assert_eq!(
                MachineId::is_valid(&[byte]),
                ALPHABET.contains(&byte),
                "{byte:#x}"
            );
        }
    }

    #[test]
    fn ids_are_compared_with_their_case() {
        assert_ne!(MachineId::parse("web"), MachineId::parse("Web"));
    }

    #[test]
    fn an_id_is_looked_up_by_its_text() {
        for length in [1, SHORT, SHORT + 1] {
            let [one, other] = ["a", "b"].map(|text| text.repeat(length));
            let ids = std::collections::HashSet::from([MachineId::parse(&one).unwrap()]);
            assert!(ids.contains(&one[..]));
            assert!(!ids.contains(&other[..]));
        }
    }

    #[test]
    fn ids_are_in_the_order_of_their_texts() {
        let mut texts = vec![
            "b".repeat(SHORT + 1),
            "a".into(),
            "b".into(),
            "a".repeat(SHORT + 1),
        ];
        let mut ids: Vec<_> = texts
            .iter()
            .filter_map(|text| MachineId::parse(text))
            .collect();
        texts.sort_unstable();
        ids.sort_unstable();
        let sorted: Vec<&str> = ids.iter().map(MachineId::as_str).collect();
        assert_eq!(sorted, texts);
    }
}
