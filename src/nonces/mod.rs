//! Where spent nonces are remembered. The promise that a store makes is
//! [`NonceStore`](crate::auth::replay::NonceStore); here it is kept.

mod floor;
mod journal;
mod memory;
mod shared;
mod spent;

pub use journal::JournaledNonces;
pub use memory::{MemoryNonces, NonceQuotas};
pub use shared::SharedNonces;
