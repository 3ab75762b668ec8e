//! The decision core: pure values in, a verdict out.
//!
//! Nothing here knows a socket, a clock, a file or a log; time is an argument. The modules, in the
//! order in which a request meets them:
//!
//! - [`target`] and [`method`]: what may be asked for, in one spelling;
//! - [`headers`]: the four signing headers;
//! - [`lost_header`]: other headers that may not be lost in silence;
//! - [`message`]: what a machine signs;
//! - [`identity`]: machines and their keys, and the [`validity`] of those;
//! - [`signature`]: the check itself;
//! - [`replay`]: the window, and what a store of nonces promises;
//! - [`private_key`]: the text of a key that signs;
//! - [`policy`]: what a machine may do, from where, how often;
//! - [`decision`]: the line of proof values that ties these together, in order;
//! - [`refusal`]: every way to say no.

pub mod decision;
pub mod headers;
pub mod identity;
pub mod lost_header;
pub mod message;
pub mod method;
pub mod policy;
pub mod private_key;
pub mod refusal;
pub mod replay;
pub mod signature;
pub mod target;
pub mod validity;
