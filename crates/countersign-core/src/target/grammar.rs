//! The grammar of a request target: its bytes and its escapes.

/// The rule that a request target broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Longer than [`Target::MAX_LEN`](super::Target::MAX_LEN).
    #[error("it is longer than 4096 bytes")]
    TooLong,
    /// Absolute form, asterisk form, authority form, or an empty target.
    #[error("it does not start with '/'")]
    NotOriginForm,
    /// `//` in the path.
    #[error("it has an empty segment ('//')")]
    EmptySegment,
    /// A segment `.` or `..`.
    #[error("it has a segment '.' or '..'")]
    DotSegment,
    /// A raw byte that a path or a query may not hold.
    #[error("it holds a character that is forbidden or must be percent-encoded")]
    ForbiddenByte,
    /// `%` without two hexadecimal digits.
    #[error("it holds '%' without two hexadecimal digits")]
    BadPercent,
    /// `%2a` for `%2A` in a path.
    #[error("percent-encoding in a path must use upper-case digits")]
    LowerCasePercent,
    /// `%41` for `A` in a path: a second spelling.
    #[error(
        "it percent-encodes a character that needs no encoding (a letter, a digit, or one of - . _ ~)"
    )]
    NeedlessPercent,
    /// `%2F`, `%5C`, `%3F`, or an encoded control character in a path.
    #[error("it percent-encodes a slash, a backslash, a question mark or a control character")]
    ForbiddenPercent,
}

/// Splits at the slashes and checks each segment (RFC 3986, section 3.3, without `;`: some servers
/// remove path parameters before they resolve the path).
pub(super) fn check_path(path: &[u8]) -> Result<(), TargetError> {
    let mut segments = path[1..].split(|&b| b == b'/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            // Only the last segment may be empty: "/" and a trailing slash.
            b"" if segments.peek().is_some() => return Err(TargetError::EmptySegment),
            b"." | b".." => return Err(TargetError::DotSegment),
            _ => check_segment(segment)?,
        }
    }
    Ok(())
}

fn check_segment(segment: &[u8]) -> Result<(), TargetError> {
    let mut rest = segment;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            let [high, low, tail @ ..] = tail else {
                return Err(TargetError::BadPercent);
            };
            rest = tail;
            check_encoded(*high, *low)?;
        } else if !is_segment_byte(byte) {
            return Err(TargetError::ForbiddenByte);
        }
    }
    Ok(())
}

/// Checks `%` and two digits in a path. Dots are unreserved, so an encoded dot segment is a
/// needless encoding and refused.
fn check_encoded(high: u8, low: u8) -> Result<(), TargetError> {
    let (Some(h), Some(l)) = (hex_value(high), hex_value(low)) else {
        return Err(TargetError::BadPercent);
    };
    if high.is_ascii_lowercase() || low.is_ascii_lowercase() {
        return Err(TargetError::LowerCasePercent);
    }
    match h << 4 | l {
        b'/' | b'\\' | b'?' | 0x00..=0x1f | 0x7f => Err(TargetError::ForbiddenPercent),
        byte if is_unreserved(byte) => Err(TargetError::NeedlessPercent),
        _ => Ok(()),
    }
}

/// Checks the alphabet alone (RFC 3986, section 3.4). The query is otherwise opaque.
pub(super) fn check_query(query: &[u8]) -> Result<(), TargetError> {
    let mut rest = query;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            match tail {
                [h, l, tail @ ..] if hex_value(*h).is_some() && hex_value(*l).is_some() => {
                    rest = tail;
                }
                _ => return Err(TargetError::BadPercent),
            }
        } else if !(is_segment_byte(byte) || matches!(byte, b'/' | b'?' | b';')) {
            return Err(TargetError::ForbiddenByte);
        }
    }
    Ok(())
}

/// `pchar` of RFC 3986 without `;` and without percent-encoding.
const fn is_segment_byte(byte: u8) -> bool {
    is_unreserved(byte) || (is_optionally_encoded(byte) && byte != b';')
}

/// RFC 3986, section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// `sub-delims` of RFC 3986, `:` and `@`. `pchar` allows them unencoded. `encodeURIComponent`, Go's
/// `url.PathEscape` and Python's `quote` each encode a different subset.
pub(super) const fn is_optionally_encoded(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@'
    )
}

pub(super) const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}
