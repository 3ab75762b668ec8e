//! What the tests stand on.

pub mod agent;
pub mod backend;
pub mod client;
pub mod gateway;
pub mod http2;
pub mod openbao;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod siege;
pub mod signer;
pub mod tls;
