//! Enrolment: who may register a new machine, and what the machine gets.
//!
//! In the order of a call: [`EnrolmentCall`] finds it by its path, `body` parses it, `admission`
//! judges the secret, by the [`TokenTerms`] of a token or by an [`ActiveJoiner`], `new_machine`
//! judges the key and the names, and [`enrol`] makes the machine. [`KeyRenewal`] judges the new key of
//! a machine that is there.

mod admission;
mod body;
mod call;
mod enrol;
mod fault;
mod issuer_keys;
mod new_machine;
mod new_token;
mod renewal;
mod token_terms;

pub use admission::AdmittedBy;
pub use call::{EnrolmentCall, EnrolmentSecret};
pub use enrol::{Enrolled, EnrolmentObjection, EnrolmentRequest, enrol};
pub use fault::{EnrolmentFault, NotEnrolled};
pub use issuer_keys::ActiveJoiner;
pub use new_token::{IssuedToken, NoRandomness};
pub use renewal::KeyRenewal;
pub use token_terms::TokenTerms;
