//! Adapters: what the calls of SikkerKey's clients ask of a KV engine (version 2), and what its
//! answers become. Everything here is pure: `forward` makes the requests, through [`KvReader`].
//!
//! [`KvReader`]: translation::KvReader

pub(crate) mod client_answer;
pub(crate) mod client_call;
pub(crate) mod kv_answer;
pub(crate) mod kv_read;
pub(crate) mod poll_marks;
pub(crate) mod secret_path;
pub(crate) mod translation;
