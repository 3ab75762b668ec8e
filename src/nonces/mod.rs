//! Where spent nonces are remembered. The promise that a store makes is
//! [`NonceStore`](crate::auth::replay::NonceStore); here it is kept.

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
