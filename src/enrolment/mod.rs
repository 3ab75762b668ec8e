//! Enrolment: who may register a new machine, and what the machine gets.
//!
//! [`TokenTerms`] are the terms of an enrolment token.

mod token_terms;

pub use token_terms::TokenTerms;
