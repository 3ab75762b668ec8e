//! The client's side: a request is read, and ambiguous framing is refused.

pub(crate) mod body;
mod chunks;
mod client_address;
pub(crate) mod draining;
pub(crate) mod first_line;
pub(crate) mod framing;
pub(crate) mod head;
pub(crate) mod health;
pub(crate) mod jwks;
pub(crate) mod keep_alive;
pub(crate) mod linger;
pub(crate) mod origin;
pub(crate) mod readiness;
pub(crate) mod refusal_response;
pub(crate) mod request_id;
mod request_stream;
pub(crate) mod reset_on_close;
