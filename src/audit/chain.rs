//! The chain of hashes that holds the lines of a log together.
//!
//! Every line ends in its number and its hash: SHA-256 over the hash of the line before, 32 bytes
//! (zeros before the first), and the line's own bytes up to the field that holds the hash. A line
//! that is changed, dropped, added or moved changes the hash of every later line. An attacker who
//! writes all later lines anew is stopped by a [checkpoint](super::checkpoint) only.

use std::fmt;
use std::io::Write;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::hex::Hex;

/// The head of a chain: the number of its last line, from 1, and the hash of that line. Printed as
/// `number:hash`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainHead {
    /// The line's number; 0 before the first.
    pub seq: u64,
    /// The line's hash; zeros before the first.
    pub hash: [u8; 32],
}

const FIELD: &[u8] = b",\"hash\":\"";
const END: &[u8] = b"\"}";
const HEX: usize = 64;

impl ChainHead {
    /// The head before the first line.
    pub const START: ChainHead = ChainHead {
        seq: 0,
        hash: [0; 32],
    };

    /// Appends number and hash to a line, `{..}` and a line feed, and gives the head after it.
    pub(super) fn link(self, line: &mut Vec<u8>) -> ChainHead {
        let seq = self.seq + 1;
        line.truncate(line.len().saturating_sub(b"}\n".len()));
        // Writing to a Vec does not fail.
        let _ = write!(line, ",\"seq\":{seq}");
        let head = self.after(seq, line);
        line.extend_from_slice(FIELD);
        let _ = write!(line, "{}", Hex(&head.hash));
        line.extend_from_slice(END);
        line.push(b'\n');
        head
    }

    /// The head after a line of that number whose bytes, up to the hash, are `body`.
    pub fn after(self, seq: u64, body: &[u8]) -> ChainHead {
        let digest = Sha256::new()
            .chain_update(self.hash)
            .chain_update(body)
            .finalize();
        ChainHead {
            seq,
            hash: digest.into(),
        }
    }
}

/// Splits a line without its line feed: its bytes up to the hash, and the number and hash that it
/// claims. `None` where it does not end in them.
pub fn claimed(line: &[u8]) -> Option<(&[u8], ChainHead)> {
    let (body, tail) = line.split_at_checked(line.len().checked_sub(tail_len())?)?;
    let hash = tail.strip_prefix(FIELD)?.strip_suffix(END)?;
    let hash = unhex(std::str::from_utf8(hash).ok()?)?;
    let start = body.iter().rposition(|byte| *byte == b',')?;
    let seq = body[start..].strip_prefix(b",\"seq\":")?;
    let seq = number(std::str::from_utf8(seq).ok()?)?;
    Some((body, ChainHead { seq, hash }))
}

const fn tail_len() -> usize {
    FIELD.len() + HEX + END.len()
}

/// Decimal, without a sign or a leading zero: one spelling a number.
fn number(text: &str) -> Option<u64> {
    let digits = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != HEX || !text.bytes().all(lower) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

impl fmt::Display for ChainHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, Hex(&self.hash))
    }
}

/// A text is not `number:hash`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not the head of a log: a number, ':' and 64 hexadecimal digits in lower case")]
pub struct InvalidChainHead;

impl FromStr for ChainHead {
    type Err = InvalidChainHead;

    fn from_str(text: &str) -> Result<ChainHead, InvalidChainHead> {
        let (seq, hash) = text.split_once(':').ok_or(InvalidChainHead)?;
        let head = number(seq).zip(unhex(hash));
        head.map(|(seq, hash)| ChainHead { seq, hash })
            .ok_or(InvalidChainHead)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn linked(head: ChainHead, json: &str) -> (ChainHead, Vec<u8>) {
        let mut line = format!("{json}\n").into_bytes();
        let head = head.link(&mut line);
        assert_eq!(line.pop(), Some(b'\n'));
        (head, line)
    }

    #[test]
    fn a_line_tells_its_number_and_hash() {
        let (head, line) = linked(ChainHead::START, "{\"a\":1}");
        // From `(head -c 32 /dev/zero; printf '{"a":1,"seq":1') | sha256sum`.
        let hash = "32dc14855f61dd0481ced1e54d78ed822d884f1c7b28ffa47d9053f83b8db93f";
        let text = format!("{{\"a\":1,\"seq\":1,\"hash\":\"{hash}\"}}");
        assert_eq!(String::from_utf8(line).unwrap(), text);
        assert_eq!(head.to_string(), format!("1:{hash}"));
    }

    #[test]
    fn the_hash_of_a_line_depends_on_the_line_before() {
        let (one, _) = linked(ChainHead::START, "{\"a\":1}");
        let (other, _) = linked(ChainHead::START, "{\"a\":2}");
        assert_ne!(linked(one, "{\"b\":1}"), linked(other, "{\"b\":1}"));
    }

    #[test]
    fn a_line_that_does_not_end_in_its_hash_claims_nothing() {
        let (_, line) = linked(ChainHead::START, "{\"a\":1}");
        for end in 0..line.len() {
            assert_eq!(claimed(&line[..end]), None);
        }
        let text = String::from_utf8(line).unwrap();
        for (from, to) in [
            ("\"seq\":1", "\"seq\":01"),
            ("\"seq\":1", "\"seq\":+1"),
            ("hash", "Hash"),
        ] {
            assert_eq!(claimed(text.replace(from, to).as_bytes()), None, "{to}");
        }
    }

    #[test]
    fn what_is_not_a_head_is_refused() {
        let hash = "0".repeat(64);
        for text in [
            "",
            "1",
            ":",
            &format!("01:{hash}"),
            &format!("1:{hash}0"),
            &format!("1:{}", "A".repeat(64)),
        ] {
            assert_eq!(text.parse::<ChainHead>(), Err(InvalidChainHead), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_linked_line_reads_back(seq in 0u64..u64::MAX, hash: [u8; 32], text in "[ -~]*") {
            let before = ChainHead { seq, hash };
            let json = serde_json::to_string(&text).unwrap();
            let (head, line) = linked(before, &format!("{{\"a\":{json}}}"));
            let (body, found) = claimed(&line).unwrap();
            prop_assert_eq!(found, head);
            prop_assert_eq!(before.after(seq + 1, body), head);
            prop_assert_eq!(head.to_string().parse(), Ok(head));
        }
    }
}
