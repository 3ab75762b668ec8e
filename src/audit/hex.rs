//! Bytes in lower-case hexadecimal.

use std::fmt;

use serde::{Serialize, Serializer};

/// Bytes, shown in lower-case hexadecimal. Each record has several: `{:02x}` for every byte would
/// cost more than a hash of all of them.
pub(super) struct Hex<B>(pub(super) B);

impl<B: AsRef<[u8]>> fmt::Display for Hex<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        for bytes in self.0.as_ref().chunks(32) {
            let mut text = [0; 64];
            for (digits, byte) in text.chunks_exact_mut(2).zip(bytes) {
                digits[0] = DIGITS[usize::from(byte >> 4)];
                digits[1] = DIGITS[usize::from(byte & 15)];
            }
            // Digits are UTF-8.
            f.write_str(std::str::from_utf8(&text[..bytes.len() * 2]).unwrap_or_default())?;
        }
        Ok(())
    }
}

impl<B: AsRef<[u8]>> Serialize for Hex<B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn digits_are_those_of_the_formatter_of_numbers(bytes: Vec<u8>) {
            let expected: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(Hex(&bytes).to_string(), expected);
        }
    }
}
