//! Bytes in lower-case hexadecimal.

use std::fmt;

/// Bytes, shown in lower-case hexadecimal. Each record has several: `{:02x}` for every byte would
/// cost more than a hash of all of them.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl Hex<'_> {
    /// Adds the digits to `text`.
    pub(super) fn append(&self, text: &mut Vec<u8>) {
        let (eights, rest) = self.0.as_chunks::<8>();
        for bytes in eights {
            text.extend_from_slice(bytes.map(digits).as_flattened());
        }
        for byte in rest {
            text.extend_from_slice(&digits(*byte));
        }
    }
}

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| {
            let digits = digits(*byte);
            f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
        })
    }
}

/// The two digits of a byte.
const fn digits(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[(byte >> 4) as usize], DIGITS[(byte & 15) as usize]]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn both_ways_give_what_the_formatter_of_numbers_gives(bytes: Vec<u8>) {
            let expected: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let mut text = Vec::new();
            Hex(&bytes).append(&mut text);
            prop_assert_eq!(String::from_utf8(text).unwrap(), expected.clone());
            prop_assert_eq!(Hex(&bytes).to_string(), expected);
        }
    }
}
