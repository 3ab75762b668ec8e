//! The client's side: a request is read, and what has two readings is refused.

pub(crate) mod body;
pub(crate) mod chunks;
pub(crate) mod client_address;
pub(crate) mod first_line;
pub(crate) mod framing;
pub(crate) mod health;
pub(crate) mod origin;
pub(crate) mod refuse;
pub(crate) mod request_id;
pub(crate) mod request_stream;
