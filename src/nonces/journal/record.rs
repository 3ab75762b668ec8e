//! The record of one accepted claim on disk: forty bytes with a checksum.

use sha2::{Digest, Sha256};

use countersign_core::message::Timestamp;
use countersign_core::replay::{Claim, NonceKey, Owner};

/// Bytes of a record: nonce key 16, owner 8, timestamp 8, check 7, [`END`].
pub(super) const LEN: usize = 40;

/// The last byte of a record, never zero. A record that was cut short ends in zeros, with which its
/// segment was filled. A record that was changed after it was written does not.
const END: u8 = 0xa5;

const CHECKED: usize = 32;

/// The position of a record. The checksum covers it: a record is damaged at any other position.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position {
    pub(super) segment: u64,
    pub(super) index: u32,
}

/// The content of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// No record was written here.
    Empty,
    /// The write did not finish, so the claim did not succeed.
    Torn,
    /// A complete record.
    Spent(Claim),
    /// A record that was changed after it was written.
    Damaged,
}

/// The record of `claim` at `position`.
pub(super) fn encode(claim: &Claim, position: Position) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[..16].copy_from_slice(claim.nonce.as_bytes());
    bytes[16..24].copy_from_slice(&claim.owner.number().to_le_bytes());
    bytes[24..CHECKED].copy_from_slice(&claim.unix_seconds().to_le_bytes());
    let check = check(&bytes[..CHECKED], position);
    bytes[CHECKED..LEN - 1].copy_from_slice(&check);
    bytes[LEN - 1] = END;
    bytes
}

/// Reads the record at `position`.
pub(super) fn decode(bytes: &[u8; LEN], position: Position) -> Slot {
    if bytes.iter().all(|byte| *byte == 0) {
        return Slot::Empty;
    }
    match bytes[LEN - 1] {
        0 => Slot::Torn,
        END if bytes[CHECKED..LEN - 1] == check(&bytes[..CHECKED], position) => {
            claim(bytes).map_or(Slot::Damaged, Slot::Spent)
        }
        _ => Slot::Damaged,
    }
}

fn claim(bytes: &[u8; LEN]) -> Option<Claim> {
    let mut nonce = [0; 16];
    nonce.copy_from_slice(&bytes[..16]);
    let number = |at: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(number)
    };
    Some(Claim {
        nonce: NonceKey::from_bytes(nonce),
        owner: Owner::from_number(number(16)),
        timestamp: Timestamp::parse(number(24).to_string().as_bytes())?,
    })
}

/// A checksum against accidents, not against attackers: a process that can write the journal can
/// also delete it.
fn check(bytes: &[u8], position: Position) -> [u8; LEN - 1 - CHECKED] {
    // 44 bytes, so that with its padding the input is one block of SHA-256.
    let digest = Sha256::new()
        .chain_update(bytes)
        .chain_update(position.segment.to_le_bytes())
        .chain_update(position.index.to_le_bytes())
        .finalize();
    let mut short = [0; LEN - 1 - CHECKED];
    short.copy_from_slice(&digest[..LEN - 1 - CHECKED]);
    short
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::testing::claim;
    use super::*;
    use proptest::prelude::*;

    const HERE: Position = Position {
        segment: 7,
        index: 3,
    };

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let claim = claim(1, 1_800_000_000);
        assert_eq!(decode(&encode(&claim, HERE), HERE), Slot::Spent(claim));
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let whole = encode(&claim(1, 1_800_000_000), HERE);
        for bit in 0..LEN * 8 {
            let mut bytes = whole;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bytes, HERE), Slot::Damaged, "bit {bit}");
        }
    }

    #[test]
    fn a_record_cut_short_at_any_byte_is_torn_or_was_never_there() {
        let whole = encode(&claim(1, 1_800_000_000), HERE);
        for end in 0..LEN {
            let mut bytes = [0; LEN];
            bytes[..end].copy_from_slice(&whole[..end]);
            let expected = match bytes {
                [0, ..] if bytes == [0; LEN] => Slot::Empty,
                _ => Slot::Torn,
            };
            assert_eq!(decode(&bytes, HERE), expected, "after {end} bytes");
        }
    }

    #[test]
    fn a_record_of_another_place_is_damage() {
        let bytes = encode(&claim(1, 1_800_000_000), HERE);
        for (segment, index) in [(8, 3), (7, 4), (3, 7)] {
            let there = Position { segment, index };
            assert_eq!(decode(&bytes, there), Slot::Damaged);
        }
    }

    #[test]
    fn a_timestamp_that_no_request_can_bear_is_damage() {
        let mut bytes = encode(&claim(1, 1_800_000_000), HERE);
        bytes[24..32].copy_from_slice(&5u64.to_le_bytes());
        let check = check(&bytes[..CHECKED], HERE);
        bytes[CHECKED..LEN - 1].copy_from_slice(&check);
        assert_eq!(decode(&bytes, HERE), Slot::Damaged);
    }

    proptest! {
        #[test]
        fn any_claim_survives(n in any::<u32>(), t in 1_000_000_000u64..99_999_999_999, segment: u64, index: u32) {
            let (claim, position) = (claim(n, t), Position { segment, index });
            prop_assert_eq!(decode(&encode(&claim, position), position), Slot::Spent(claim));
        }
    }
}
