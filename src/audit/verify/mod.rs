//! Verification of a log: whether it is unchanged since it was written, and whether the machine
//! that each accepted request names has signed it. Neither the gateway nor the keeper of the log is
//! trusted: the public key of the gateway is, and the registry of the machines' keys.
//!
//! `line` examines each line by itself, on all cores. `sequence` checks the chain from line to
//! line.
//! [`AuditFault`] lists the faults.

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

/// Bytes of lines examined at once.
const BLOCK_BYTES: usize = 16 * 1024 * 1024;

/// Reads files one after another, as one log, and reports every fault in order. `progress` is
/// called with the number of bytes read.
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
