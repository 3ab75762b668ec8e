//! A strict reading of chunked bodies (RFC 9112, section 7.1). Pingora's reader forgives an empty
//! chunk size, line ends without a carriage return, and trailers that are no fields. Where two
//! programs disagree about the end of a body, the rest of it becomes a request (request smuggling),
//! so these are refused.

use http::HeaderName;
use http::header::HeaderMap;

/// Most digits of a chunk size: more would not fit 64 bits.
const DIGITS: u8 = 16;

/// Largest trailer section, in bytes. It is read, judged and dropped; a checksum or two fit.
const TRAILER_BYTES: usize = 8 * 1024;

/// Most bytes of chunk heads that the data does not account for, in one body. A chunk may have 16
/// bytes and twice its own length for free; beyond that, extensions would make a small body an
/// endless upload.
const SPARE_BYTES: u64 = 16 * 1024;

/// Why a body is not read on.
pub(crate) const MALFORMED: &str = "the chunked body is malformed";
const LONG: &str = "the chunk extensions or trailers are too long";

/// The framing of one chunked body, as far as it has been read.
#[derive(Debug)]
pub(crate) struct Chunks {
    step: ChunkStep,
    /// The size of the chunk, as far as its digits have come.
    size: u64,
    digits: u8,
    /// The length of this chunk's head.
    head: u64,
    /// Bytes of heads that the data did not account for.
    spare: u64,
    /// Bytes of the trailer section.
    trailer_bytes: usize,
    line: Vec<u8>,
    trailers: HeaderMap,
}

/// The meaning of the next byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkStep {
    Size,
    Extension,
    HeadLf,
    /// With the bytes of data that are still to come.
    Data(u64),
    DataCr,
    DataLf,
    /// The first of a trailer line, or of the empty line at the end.
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    Done,
}

impl Chunks {
    pub(crate) fn new() -> Chunks {
        Chunks {
            step: ChunkStep::Size,
            size: 0,
            digits: 0,
            head: 0,
            spare: 0,
            trailer_bytes: 0,
            line: Vec::new(),
            trailers: HeaderMap::new(),
        }
    }

    /// Whether the body has been read to its end.
    pub(crate) fn is_done(&self) -> bool {
        self.step == ChunkStep::Done
    }

    /// The trailer fields read so far. They are checked and never forwarded.
    pub(crate) fn trailers(&self) -> &HeaderMap {
        &self.trailers
    }

    /// Reads the next bytes; how many of them belong to the body. Fewer than there are means that
    /// the body ends within them. However the input is split, the verdict is the same.
    ///
    /// # Errors
    ///
    /// Why the body is refused; nothing more of it may then be read.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let mut at = 0;
        while at < bytes.len() {
            if let ChunkStep::Data(left) = self.step {
                let here = usize::try_from(left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len() - at);
                at += here;
                self.step = match left - here as u64 {
                    0 => ChunkStep::DataCr,
                    left => ChunkStep::Data(left),
                };
                continue;
            }
            if self.step == ChunkStep::Done {
                break;
            }
            self.step = self.next(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    fn next(&mut self, byte: u8) -> Result<ChunkStep, &'static str> {
        match (self.step, byte) {
            (ChunkStep::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if self.digits < DIGITS => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.size = self.size << 4 | u64::from(digit);
                self.digits += 1;
                self.count_head()?;
                Ok(ChunkStep::Size)
            }
            (ChunkStep::Size, b'\r') if self.digits > 0 => Ok(ChunkStep::HeadLf),
            (ChunkStep::Size, b';') if self.digits > 0 => Ok(ChunkStep::Extension),
            (ChunkStep::Extension, b'\r') => Ok(ChunkStep::HeadLf),
            (ChunkStep::Extension, b' '..=b'~') => {
                self.count_head()?;
                Ok(ChunkStep::Extension)
            }
            (ChunkStep::HeadLf, b'\n') => Ok(self.end_head()),
            (ChunkStep::DataCr, b'\r') => Ok(ChunkStep::DataLf),
            (ChunkStep::DataLf, b'\n') => Ok(ChunkStep::Size),
            (ChunkStep::TrailerStart, b'\r') => Ok(ChunkStep::EndLf),
            (ChunkStep::Trailer, b'\r') => Ok(ChunkStep::TrailerLf),
            (ChunkStep::TrailerStart | ChunkStep::Trailer, b'\t' | b' '..=b'~') => {
                self.trailer_bytes += 1;
                if self.trailer_bytes > TRAILER_BYTES {
                    return Err(LONG);
                }
                self.line.push(byte);
                Ok(ChunkStep::Trailer)
            }
            (ChunkStep::TrailerLf, b'\n') => {
                self.end_trailer()?;
                Ok(ChunkStep::TrailerStart)
            }
            (ChunkStep::EndLf, b'\n') => Ok(ChunkStep::Done),
            _ => Err(MALFORMED),
        }
    }

    fn count_head(&mut self) -> Result<(), &'static str> {
        self.head += 1;
        match self.spare + self.head > SPARE_BYTES {
            true => Err(LONG),
            false => Ok(()),
        }
    }

    fn end_head(&mut self) -> ChunkStep {
        let free = self.size.saturating_mul(2).saturating_add(16);
        self.spare = (self.spare + self.head).saturating_sub(free);
        let size = self.size;
        (self.size, self.digits, self.head) = (0, 0, 0);
        match size {
            0 => ChunkStep::TrailerStart,
            size => ChunkStep::Data(size),
        }
    }

    /// Takes the line as a field (RFC 9112, section 5): a token, a colon without a space before it,
    /// and a value.
    fn end_trailer(&mut self) -> Result<(), &'static str> {
        let line = std::mem::take(&mut self.line);
        let colon = line.iter().position(|&b| b == b':').ok_or(MALFORMED)?;
        let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| MALFORMED)?;
        let value = line[colon + 1..].trim_ascii();
        let value = http::HeaderValue::from_bytes(value).map_err(|_| MALFORMED)?;
        self.trailers.try_append(name, value).map_err(|_| LONG)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
