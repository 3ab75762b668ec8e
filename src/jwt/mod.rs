//! JSON Web Tokens (JWT, RFC 7519): the cryptography for all of them, and the verification of those
//! that another party issues.
//!
//! A token is parsed before it is believed: [`Jwt::parse`] gives its parts, [`Jwt::verify`] checks
//! its signature, and only that gives [`JwtClaims`].

mod claims;
mod jwk_set;
mod object;
pub(crate) mod provider;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
pub(crate) mod testing;
mod token;

pub use claims::JwtClaims;
pub use jwk_set::{IssuerKeys, MAX_KEY_SET};
pub use object::JsonObject;
pub use token::{Jwt, JwtFault, MAX_JWT};
