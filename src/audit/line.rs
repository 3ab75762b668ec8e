//! One record, one line: JSON (RFC 8259) in printable ASCII, ended by a line feed.

use std::io::{self, Write};

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

/// Bytes of a usual decision record with its number and hash.
pub(super) const USUAL_DECISION: usize = 1280;

/// Encodes a record as one line, in a buffer with `room` for a usual line with its number and hash.
///
/// # Errors
///
/// A value cannot be serialized. No record has such a value.
pub(super) fn encode(record: &impl Serialize, room: usize) -> serde_json::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(room);
    let mut serializer = serde_json::Serializer::with_formatter(&mut line, PrintableAscii);
    record.serialize(&mut serializer)?;
    line.push(b'\n');
    Ok(line)
}

/// Compact JSON that escapes everything but printable ASCII. JSON itself lets DEL, the C1 controls
/// (U+009B starts a terminal escape sequence) and the bidirectional overrides (text that reads
/// otherwise than it is) through: a log is read in terminals.
struct PrintableAscii;

impl Formatter for PrintableAscii {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        if is_printable(fragment.as_bytes()) {
            return writer.write_all(fragment.as_bytes());
        }
        for c in fragment.chars() {
            match c {
                ' '..='~' => writer.write_all(&[c as u8])?,
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(writer, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether all of it is printable ASCII. Looks at every byte, also after one that is not, so that
/// the compiler takes many at once.
fn is_printable(text: &[u8]) -> bool {
    (text.iter()).fold(true, |all, byte| all & matches!(byte, b' '..=b'~'))
}

/// A key or a signature, in standard base64 with padding.
pub(super) struct Base64<B>(pub(super) B);

impl<B: AsRef<[u8]>> Serialize for Base64<B> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0.as_ref(), &STANDARD))
    }
}

#[cfg(test)]
mod tests;
