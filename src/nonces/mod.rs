//! Replay protection: the stores of spent nonces, each an implementation of
//! [`NonceStore`](countersign_core::replay::NonceStore):
//!
//! - [`MemoryNonces`]: a replay cache under a floor, for the life of one process;
//! - [`JournaledNonces`]: the same with a journal on disk, across restarts and power loss;
//! - [`SharedNonces`]: the same with one Redis or Valkey primary, for several gateways.

mod floor;
mod journal;
mod memory;
mod quota;
mod replay_cache;
mod shared;

pub use journal::JournaledNonces;
pub use memory::MemoryNonces;
pub use quota::NonceQuotas;
pub use shared::SharedNonces;
