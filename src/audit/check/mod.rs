//! Reading a log back: whether it is what was written, and whether every request in it was signed
//! by the machine that it names. It trusts neither the gateway nor whoever kept the log: what it
//! believes is the gateway's public key, and who owns which key.
//!
//! `record` looks at each line by itself, on all cores; `follow` puts the lines in order and finds
//! where they do not go together; [`Fault`] is what there is to find.

mod fault;
mod follow;
mod record;

use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead};

use ed25519_dalek::VerifyingKey;
use rayon::prelude::*;

pub use fault::{Fault, Finding};

use self::follow::Follower;
use self::record::Examined;
use super::chain::Head;
use super::checkpoint::Domain;
use super::lines::next_line;

/// What a log is held against.
#[derive(Default)]
pub struct Believed {
    /// Who owns which keys.
    pub keys: HashMap<String, HashSet<[u8; 32]>>,
    /// The last second (Unix) of keys that have one, or whose machine was removed then.
    pub ends: HashMap<[u8; 32], u64>,
    /// The gateway's public key; without it no checkpoint counts.
    pub gateway_key: Option<VerifyingKey>,
    /// The hash of the line before the first, for a log whose beginning is elsewhere.
    pub continues: Option<[u8; 32]>,
    /// A head that was seen earlier and must still be in the log.
    pub head: Option<Head>,
    /// Whether registry records in the log are believed. Whoever can write the log behind its last
    /// checkpoint, or has the gateway's private key, can put one in.
    pub trusts_log: bool,
    /// Which stream of the gateway's it is.
    pub domain: Domain,
    /// The chain may begin anew: a gateway that logs to standard output does so at each start.
    pub restarts: bool,
}

/// What a check has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Lines read, empty ones apart.
    pub lines: u64,
    /// Accepted requests whose signatures were checked.
    pub accepted: u64,
    /// Checkpoints that verified.
    pub checkpoints: u64,
    /// Records behind the last of them, in each chain: nothing but the chain holds those.
    pub unsigned: u64,
    /// Lines that a crash or a full disk cut off, as the gateway has noted in the line after.
    pub torn: u64,
    /// Where the chain ends.
    pub head: Option<Head>,
}

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
pub fn check<R: BufRead>(
    files: impl IntoIterator<Item = (String, R)>,
    believed: Believed,
    mut report: impl FnMut(Finding),
    mut progress: impl FnMut(u64),
) -> io::Result<Verdict> {
    let (gateway_key, domain) = (believed.gateway_key, believed.domain);
    let mut follower = Follower::new(believed);
    let mut read = 0;
    for (name, mut file) in files {
        let mut number = 0;
        loop {
            let lines = block(&mut file)?;
            if lines.is_empty() {
                break;
            }
            read += lines.iter().map(|line| line.len() as u64).sum::<u64>();
            let examined: Vec<Examined<'_>> = lines
                .par_iter()
                .map(|line| record::examine(line, gateway_key.as_ref(), domain))
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
