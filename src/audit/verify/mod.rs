//! Reading a log back: whether it is what was written, and whether every request in it was signed
//! by the machine that it names. It trusts neither the gateway nor whoever kept the log: what it
//! believes is the gateway's public key, and who owns which key.
//!
//! `line` looks at each line by itself, on all cores; `sequence` puts the lines in order and finds
//! where they do not go together; [`AuditFault`] is what there is to find.

mod fault;
mod line;
mod options;
mod sequence;

use std::io::{self, BufRead};

use rayon::prelude::*;

pub use fault::{AuditFault, LogFinding};
pub use options::{Verification, VerifyOptions};

use self::line::ExaminedLine;
use self::sequence::SequenceCheck;
use super::reader::next_line;

/// Lines examined at once: enough for all cores, and seven megabytes of usual ones.
const BLOCK: usize = 8192;

/// Bytes of them, whatever they are.
const BLOCK_BYTES: usize = 16 * 1024 * 1024;

/// Reads files one after another, as one log, and reports every fault in order. `progress` hears
/// how many bytes have been read.
///
/// # Errors
///
/// A file cannot be read.
pub fn verify<R: BufRead>(
    files: impl IntoIterator<Item = (String, R)>,
    believed: VerifyOptions,
    mut report: impl FnMut(LogFinding),
    mut progress: impl FnMut(u64),
) -> io::Result<Verification> {
    let (gateway_key, domain) = (believed.gateway_key, believed.domain);
    let mut follower = SequenceCheck::new(believed);
    let mut read = 0;
    for (name, mut file) in files {
        let mut number = 0;
        loop {
            let lines = block(&mut file)?;
            if lines.is_empty() {
                break;
            }
            read += lines.iter().map(|line| line.len() as u64).sum::<u64>();
            let examined: Vec<ExaminedLine<'_>> = lines
                .par_iter()
                .map(|line| line::examine(line, gateway_key.as_ref(), domain))
                .collect();
            follower.follow(&name, number, &examined, &mut report);
            number += lines.len() as u64;
            progress(read);
        }
    }
    Ok(follower.end(&mut report))
}

/// The next lines, each with its line feed if it has one.
fn block(file: &mut impl BufRead) -> io::Result<Vec<Vec<u8>>> {
    let (mut lines, mut bytes) = (Vec::new(), 0);
    while lines.len() < BLOCK && bytes < BLOCK_BYTES {
        let mut line = Vec::new();
        next_line(file, &mut line)?;
        if line.is_empty() {
            break;
        }
        bytes += line.len();
        lines.push(line);
    }
    Ok(lines)
}

#[cfg(test)]
mod tests;
