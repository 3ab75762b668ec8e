//! What a log is verified against, and what has come of it.

use std::collections::{HashMap, HashSet};

use ed25519_dalek::VerifyingKey;

use crate::audit::chain::ChainHead;
use crate::audit::checkpoint::Domain;

/// What a log is held against.
#[derive(Default)]
pub struct VerifyOptions {
    /// Who owns which keys.
    pub keys: HashMap<String, HashSet<[u8; 32]>>,
    /// The last second (Unix) of keys that have one, or whose machine was removed then.
    pub ends: HashMap<[u8; 32], u64>,
    /// The gateway's public key; without it no checkpoint counts.
    pub gateway_key: Option<VerifyingKey>,
    /// The hash of the line before the first, for a log whose beginning is elsewhere.
    pub continues: Option<[u8; 32]>,
    /// A head that was seen earlier and must still be in the log.
    pub head: Option<ChainHead>,
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
pub struct Verification {
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
    pub head: Option<ChainHead>,
}
