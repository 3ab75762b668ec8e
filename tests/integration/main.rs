//! The one integration binary: a gateway in this process, on real sockets, in front of a backend
//! that writes everything down. Unit tests of the pure core are beside the code.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may panic"
)]
#![allow(missing_docs, unreachable_pub, reason = "nobody links a test")]

mod support;

mod adapter;
mod admin;
mod agent;
mod agent_faults;
mod architecture;
mod audit;
mod bearer_api;
mod bodies;
mod certificates;
mod clock;
mod command_line;
mod credentials;
mod deadlines;
mod doctor;
mod echo;
mod files;
mod forwarding;
mod fuzz;
mod hostile;
mod identity;
mod journal;
mod lingering;
mod login;
mod login_faults;
mod login_revocation;
mod metrics;
mod model;
mod modes;
mod operation;
mod outage;
mod policy;
mod power;
mod proxies;
mod query;
mod refusals;
mod registry;
mod reload;
mod replay;
mod report;
mod routes;
mod shared;
mod shutdown;
mod siege;
mod starts;
mod throttle;
mod trail;
mod unsigned;
mod upstream;
mod upstream_health;
mod upstream_tls;
mod vectors;
