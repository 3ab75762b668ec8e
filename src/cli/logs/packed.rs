//! Files that are compressed with gzip, read as a stream.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use super::CAPACITY;

/// A compressed file may decompress to this many times its size, and to [`FIRST_BYTES`] more. Every
/// record ends in a hash of 32 bytes, which do not compress, so an audit log stays far below. A
/// decompression bomb does not.
const MOST_RATIO: u64 = 200;
const FIRST_BYTES: u64 = 64 << 20;

/// The text of a file, and whether it was compressed: gzip has two magic bytes.
pub(super) fn unpacked(mut file: impl BufRead + 'static) -> io::Result<(Box<dyn BufRead>, bool)> {
    let mut magic = Vec::new();
    file.by_ref().take(2).read_to_end(&mut magic)?;
    let is_packed = magic == [0x1f, 0x8b];
    let whole = Cursor::new(magic).chain(file);
    Ok(match is_packed {
        false => (Box::new(whole), false),
        true => {
            let decoder = MultiGzDecoder::new(CountingReader {
                file: whole,
                count: 0,
            });
            let text = BoundedUnpacker { decoder, count: 0 };
            (Box::new(BufReader::with_capacity(CAPACITY, text)), true)
        }
    })
}

/// Counts the bytes read of a compressed file.
struct CountingReader<R> {
    file: R,
    count: u64,
}

impl<R: BufRead> Read for CountingReader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(into)?;
        self.count += count as u64;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for CountingReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.file.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.count += count as u64;
        self.file.consume(count);
    }
}

/// Decompresses, up to a bound.
struct BoundedUnpacker<R> {
    decoder: MultiGzDecoder<CountingReader<R>>,
    count: u64,
}

impl<R: BufRead> Read for BoundedUnpacker<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.decoder.read(into)?;
        self.count += count as u64;
        let most = FIRST_BYTES + self.decoder.get_ref().count * MOST_RATIO;
        if self.count > most {
            let text =
                format!("decompresses to more than {MOST_RATIO} times its size: no audit log does");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(count)
    }
}
