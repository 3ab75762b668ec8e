//! The lines of a log that is read back, whoever wrote it: bounded, whatever is in the file.

use std::io::{self, BufRead, Read};

/// Longest line read, in bytes. A registry record with a thousand machines has some 300 KB. A longer
/// line comes in pieces, none of which ends in a line feed but the last.
pub const MAX_LINE: u64 = 4 * 1024 * 1024;

/// Reads the next line into `line`, with its line feed if it has one, and gives its length in bytes;
/// zero at the end.
///
/// # Errors
///
/// The file cannot be read.
pub fn next_line(file: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    line.clear();
    file.take(MAX_LINE).read_until(b'\n', line)
}
