//! The options of a verification, and its result.

use std::collections::{HashMap, HashSet};

use ed25519_dalek::VerifyingKey;

use crate::audit::chain::ChainHead;
use crate::audit::checkpoint::Domain;

/// The keys and heads that a log is verified against.
#[derive(Default)]
pub struct VerifyOptions {
    /// The keys of each machine, by its id.
    pub keys: HashMap<String, HashSet<[u8; 32]>>,
    /// The last second (Unix) of keys that have one, or whose machine was removed then.
    pub ends: HashMap<[u8; 32], u64>,
    /// The gateway's public key; without it no checkpoint counts.
    pub gateway_key: Option<VerifyingKey>,
    /// The hash of the line before the first, for a log whose beginning is elsewhere.
    pub continues: Option<[u8; 32]>,
    /// A head that was seen earlier and must still be in the log.
    pub head: Option<ChainHead>,
    /// Whether registry records in the log are trusted. They can be forged after the last
    /// checkpoint by anyone who can write the log, and anywhere with the private key of the
    /// gateway.
    pub trusts_log: bool,
    /// The stream that the log is of.
    pub domain: Domain,
    /// The chain may begin again, as it does at each start of a gateway that logs to standard
    /// output.
    pub restarts: bool,
}

/// The result of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verification {
    /// Lines read, empty ones apart.
    pub lines: u64,
    /// Accepted requests whose signatures were checked.
    pub accepted: u64,
    /// Checkpoints that verified.
    pub checkpoints: u64,
    /// Records after the last checkpoint of each chain: only the chain protects them.
    pub unsigned: u64,
    /// Lines that a crash or a full disk cut off, as the gateway noted in the line after.
    pub torn: u64,
    /// The head at the end of the chain.
    pub head: Option<ChainHead>,
}
