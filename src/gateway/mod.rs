//! The gateway: Pingora on both sides of the decision.
//!
//! The layers:
//!
//! `receive` <- `upstream` <- `adapter` <- `plan` <- `decide` <- `record` <- `forward` <- `manage` <- `enrol` <- `assembly` <- `edge`
//!
//! A layer imports only layers to its left. A test reads the line above and holds this. They stand
//! in the order in which a request meets them, except for `upstream`: `decide` takes the credential
//! from it, and `forward` the server.
//!
//! 1. `receive` reads a request: its head, framing, source and body. It answers health checks, and
//!    writes the responses to refused requests.
//! 2. `upstream` holds the servers of each upstream, with their connections and health, and the
//!    credentials of the backends.
//! 3. `adapter` translates the calls of other clients into reads of a key/value store. It is pure.
//! 4. `plan` holds the configuration in force, with its pools, credentials and counters.
//! 5. `decide` runs the checks in order. A request that passes all of them is a `DecidedRequest`.
//! 6. `record` writes the decision to the audit log. Only that makes an `AuthorizedRequest`, or an
//!    `AuthorizedCall`.
//! 7. `forward` sends an authorized request to a server, and passes the response on.
//! 8. `manage` answers the calls that manage the registry, in place of forwarding.
//! 9. `enrol` answers the calls by which machines register themselves.
//! 10. `assembly` wires the parts, and `edge` takes one request through them.

mod adapter;
mod assembly;
mod decide;
mod edge;
mod enrol;
mod forward;
mod manage;
mod plan;
mod receive;
mod record;
mod upstream;

pub use self::assembly::{Gateway, Parts};
pub use self::decide::explain::{
    AdapterFacts, Explanation, MachineFacts, PolicyFacts, PredictedLogin, Prediction, Question,
    RouteFacts, explain,
};
pub(crate) use self::edge::Edge;
pub(crate) use self::plan::{Plan, window};
pub(crate) use self::receive::framing::Trailers;
pub(crate) use self::receive::jwks;
pub(crate) use self::receive::origin::{Origin, SourceKey};
pub(crate) use self::receive::reset_on_close::ResetOnClose;
pub(crate) use self::upstream::report::{SecretKind, SecretReport, ServerReport};
