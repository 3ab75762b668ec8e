//! The checksum of rows that come and go.

use sha2::{Digest as _, Sha256};

/// A sum, modulo 2^256, of the hashes of rows: rows come and go in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RowSum([u64; 4]);

impl RowSum {
    pub(super) fn parse(bytes: &[u8]) -> Option<RowSum> {
        let bytes: &[u8; 32] = bytes.try_into().ok()?;
        let mut words = [0; 4];
        for (word, part) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = u64::from_le_bytes(part.try_into().ok()?);
        }
        Some(RowSum(words))
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn of_row(kind: u64, id: &str, entry: &str) -> RowSum {
        let mut hash = Sha256::new();
        hash.update(kind.to_be_bytes());
        hash.update((id.len() as u64).to_be_bytes());
        hash.update(id);
        hash.update(entry);
        RowSum::parse(&hash.finalize()).unwrap_or_default()
    }

    /// Adds a row.
    pub(super) fn add(&mut self, kind: u64, id: &str, entry: &str) {
        let mut carry = false;
        let other = RowSum::of_row(kind, id, entry);
        for (word, more) in self.0.iter_mut().zip(other.0) {
            let (sum, one) = word.overflowing_add(more);
            let (sum, two) = sum.overflowing_add(u64::from(carry));
            (*word, carry) = (sum, one || two);
        }
    }

    /// Takes a row out.
    pub(super) fn subtract(&mut self, kind: u64, id: &str, entry: &str) {
        let mut borrow = false;
        let other = RowSum::of_row(kind, id, entry);
        for (word, less) in self.0.iter_mut().zip(other.0) {
            let (rest, one) = word.overflowing_sub(less);
            let (rest, two) = rest.overflowing_sub(u64::from(borrow));
            (*word, borrow) = (rest, one || two);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: u64 = 0;
    const MACHINE: u64 = 1;

    #[test]
    fn rows_come_and_go_in_any_order() {
        let rows = [(MACHINE, "a", "1"), (MACHINE, "b", "2"), (GROUP, "a", "1")];
        let (mut one, mut other) = (RowSum::default(), RowSum::default());
        for (kind, id, entry) in rows {
            one.add(kind, id, entry);
        }
        for (kind, id, entry) in rows.into_iter().rev() {
            other.add(kind, id, entry);
        }
        assert_eq!(one, other);
        assert_eq!(RowSum::parse(&one.bytes()), Some(one));
        for (kind, id, entry) in rows {
            other.subtract(kind, id, entry);
        }
        assert_eq!(other, RowSum::default());
    }

    #[test]
    fn every_part_of_a_row_counts() {
        let sum = |kind, id: &str, entry: &str| RowSum::of_row(kind, id, entry);
        let row = sum(MACHINE, "ab", "c");
        for other in [
            sum(GROUP, "ab", "c"),
            sum(MACHINE, "a", "bc"),
            sum(MACHINE, "ab", "d"),
        ] {
            assert_ne!(row, other);
        }
    }
}
