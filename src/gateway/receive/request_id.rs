//! The id of one request, in headers, records and responses.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// 32 hexadecimal digits: a number drawn at random at the start of the process, and a count. It
/// is unique, not secret. Kept as text, which two records and two headers of each request show.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestId([u8; 32]);

impl RequestId {
    pub(crate) fn next() -> RequestId {
        static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0u64));
        static COUNT: AtomicU64 = AtomicU64::new(0);
        RequestId::of(*PROCESS, COUNT.fetch_add(1, Ordering::Relaxed))
    }

    fn of(process: u64, count: u64) -> RequestId {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let number = u128::from(process) << 64 | u128::from(count);
        let mut text = [0; 32];
        for (digit, byte) in text.chunks_exact_mut(2).zip(number.to_be_bytes()) {
            digit[0] = DIGITS[usize::from(byte >> 4)];
            digit[1] = DIGITS[usize::from(byte & 15)];
        }
        RequestId(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        // Digits are text.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_its_two_numbers_in_hexadecimal() {
        let id = RequestId::of(0x0123_4567_89ab_cdef, 0xf0);
        assert_eq!(id.to_string(), "0123456789abcdef00000000000000f0");
    }

    #[test]
    fn ids_differ_and_have_32_digits() {
        let (a, b) = (RequestId::next(), RequestId::next());
        assert_ne!(a, b);
        assert!(a.to_string().len() == 32 && a.to_string().bytes().all(|d| d.is_ascii_hexdigit()));
    }
}
