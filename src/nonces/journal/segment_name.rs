//! The file name of a segment, which carries its number.

const PREFIX: &str = "journal-";

/// The file name of segment `number`.
pub(super) fn of(number: u64) -> String {
    format!("{PREFIX}{number:020}")
}

/// The number in the file name of a segment; `None` for any other file name.
pub(super) fn number(file_name: &str) -> Option<u64> {
    let number = file_name.strip_prefix(PREFIX)?.parse().ok()?;
    (of(number) == file_name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_belong_together() {
        assert_eq!(number(&of(0)), Some(0));
        assert_eq!(number(&of(u64::MAX)), Some(u64::MAX));
        for odd in [
            "journal-1",
            "journal-",
            "reservation",
            "journal-+0000000000000000001",
        ] {
            assert_eq!(number(odd), None);
        }
        assert_eq!(number(&(of(1) + ".new")), None);
    }
}
