//! One record, one line: JSON (RFC 8259) in printable ASCII, ended by a line feed.
//!
//! Every accepted request waits for its line. serde's way from a struct to text, a field at a time
//! through formatters, takes several times what the hash of the line takes; so lines are put
//! together here, byte by byte.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::hex::Hex;

/// What can be written down: a line's fields, and their order, which those who read the log depend
/// on.
pub(super) trait Record {
    /// Bytes of a usual line of the kind with its number and hash, so that it is allocated once.
    const USUAL: usize;

    /// Writes the fields.
    fn write(&self, line: &mut Object<'_>);
}

/// Encodes a record as one line.
pub(super) fn encode<R: Record>(record: &R) -> Vec<u8> {
    let mut line = Vec::with_capacity(R::USUAL);
    object(&mut line, |fields| record.write(fields));
    line.push(b'\n');
    line
}

/// A JSON object that is being written.
pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    /// What comes before the next field: a brace before the first, commas after it.
    separator: u8,
}

impl Object<'_> {
    /// Writes a field. The name must be one that needs no escapes.
    pub(super) fn field(&mut self, name: &str, value: impl Value) {
        self.out.push(self.separator);
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.separator = b',';
        value.write(self.out);
    }

    /// Writes a field if there is a value for it.
    pub(super) fn optional(&mut self, name: &str, value: Option<impl Value>) {
        if let Some(value) = value {
            self.field(name, value);
        }
    }
}

/// Writes an object whose fields are those that `fields` writes.
pub(super) fn object(out: &mut Vec<u8>, fields: impl FnOnce(&mut Object<'_>)) {
    let mut object = Object {
        out,
        separator: b'{',
    };
    fields(&mut object);
    if object.separator == b'{' {
        object.out.push(b'{');
    }
    object.out.push(b'}');
}

/// What a field can hold.
pub(super) trait Value {
    /// Writes it as JSON.
    fn write(&self, out: &mut Vec<u8>);
}

impl<V: Value + ?Sized> Value for &V {
    fn write(&self, out: &mut Vec<u8>) {
        (**self).write(out);
    }
}

impl Value for str {
    fn write(&self, out: &mut Vec<u8>) {
        quoted(out, |out| escaped(out, self.as_bytes()));
    }
}

impl Value for u64 {
    fn write(&self, out: &mut Vec<u8>) {
        decimal(out, *self);
    }
}

impl Value for usize {
    fn write(&self, out: &mut Vec<u8>) {
        decimal(out, *self as u64);
    }
}

impl Value for u16 {
    fn write(&self, out: &mut Vec<u8>) {
        decimal(out, u64::from(*self));
    }
}

impl Value for bool {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
    }
}

impl Value for IpAddr {
    fn write(&self, out: &mut Vec<u8>) {
        quoted(out, |out| match self {
            IpAddr::V4(address) => {
                let [first, rest @ ..] = address.octets();
                decimal(out, first.into());
                for number in rest {
                    out.push(b'.');
                    decimal(out, number.into());
                }
            }
            IpAddr::V6(address) => {
                // Writing to a Vec does not fail.
                let _ = write!(out, "{address}");
            }
        });
    }
}

impl Value for Hex<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        quoted(out, |out| self.append(out));
    }
}

/// A key or a signature, written in standard base64.
#[derive(Clone, Copy)]
pub(super) struct Base64<'a>(pub(super) &'a [u8]);

impl Value for Base64<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        quoted(out, |out| {
            let start = out.len();
            out.resize(start + self.0.len().div_ceil(3) * 4, b'=');
            // There is room for all of it, the only thing that can be wrong.
            let _ = STANDARD.encode_slice(self.0, &mut out[start..]);
        });
    }
}

/// Values in brackets.
pub(super) struct List<I>(pub(super) I);

impl<I: Iterator<Item: Value> + Clone> Value for List<I> {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (at, value) in self.0.clone().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            value.write(out);
        }
        out.push(b']');
    }
}

/// Numbers by their names, which must need no escapes.
impl Value for BTreeMap<&'static str, u64> {
    fn write(&self, out: &mut Vec<u8>) {
        object(out, |fields| {
            for (name, number) in self {
                fields.field(name, number);
            }
        });
    }
}

/// Writes quotes around what `text` writes.
pub(super) fn quoted(out: &mut Vec<u8>, text: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    text(out);
    out.push(b'"');
}

/// Writes text as JSON has it between quotes, and everything but printable ASCII as escapes. JSON
/// itself lets DEL, the C1 controls (U+009B starts a terminal escape sequence) and the bidirectional
/// overrides (text that reads otherwise than it is) through: a log is read in terminals. Bytes that
/// are not UTF-8 become U+FFFD.
pub(super) fn escaped(out: &mut Vec<u8>, text: &[u8]) {
    if is_plain(text) {
        out.extend_from_slice(text);
        return;
    }
    for c in String::from_utf8_lossy(text).chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\r' => out.extend_from_slice(b"\\r"),
            ' '..='~' => out.push(c as u8),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(b"\\u");
                    Hex(&unit.to_be_bytes()).append(out);
                }
            }
        }
    }
}

/// Whether all of it may stand between quotes as it is. Looks at every byte, also after one that may
/// not: so the compiler takes many at once.
fn is_plain(text: &[u8]) -> bool {
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') & (*byte != b'"') & (*byte != b'\\');
    text.iter().fold(true, |all, byte| all & plain(byte))
}

/// Writes a number in decimal.
pub(super) fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20]; // of 2^64 - 1
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests;
