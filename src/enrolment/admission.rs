//! The secret of an enrolment: whether it lets a machine in, and on which terms.

use std::net::IpAddr;
use std::sync::Arc;

use tracing::warn;

use super::call::{EnrolmentCall, EnrolmentSecret};
use super::fault::{EnrolmentFault, NotEnrolled};
use super::issuer_keys::{ActiveJoiner, Unverified};
use super::token_terms::TokenTerms;
use crate::config::machine_terms::MachineTerms;
use crate::jwt::{Jwt, JwtClaims};
use crate::registry::database::{Admission, Database, StoredToken, WriteError};
use countersign_core::enrolment::{EnrolmentToken, SecretDigest};
use countersign_core::pattern::Pattern;
use countersign_core::refusal::RegistryFault;

/// The token or joiner that let a machine in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdmittedBy {
    /// A token, by its id.
    Token(String),
    /// A joiner, by its name, and the subject of the JWT.
    Joiner {
        /// Its name in the configuration.
        name: String,
        /// The claim `sub`, if the JWT has one.
        subject: Option<String>,
    },
}

/// A secret that lets a machine in. Only the checks of this file make one. The transaction that adds
/// the machine uses it up, and may still find it used up.
pub(super) struct EnrolmentGrant {
    pub(super) admission: Admission,
    pub(super) by: AdmittedBy,
    pub(super) vault: String,
    pub(super) machine: MachineTerms,
    /// The name that the joiner gives. `None`: the machine names itself.
    pub(super) name: Option<String>,
    pub(super) name_pattern: Option<Pattern>,
    pub(super) hostname_pattern: Option<Pattern>,
    pub(super) require_proof: bool,
    /// Of the text of the secret: the proof covers it.
    pub(super) digest: SecretDigest,
}

/// Judges the secret of a call, at `now` in Unix seconds.
///
/// # Errors
///
/// Whatever is wrong with it is one refusal, [`Refusal::EnrolmentRefused`]. It fails closed.
///
/// [`Refusal::EnrolmentRefused`]: countersign_core::refusal::Refusal::EnrolmentRefused
pub(super) async fn judge(
    call: &EnrolmentCall,
    secret: &str,
    client: Option<IpAddr>,
    joiners: &[Arc<ActiveJoiner>],
    database: &Database,
    now: u64,
) -> Result<EnrolmentGrant, NotEnrolled> {
    let vault = call.vault.as_deref();
    match call.secret {
        EnrolmentSecret::Token => {
            let parsed = EnrolmentToken::parse(secret);
            token(vault, parsed, client, database, now).await
        }
        EnrolmentSecret::AgentToken => {
            let parsed = EnrolmentToken::parse_hex(secret);
            token(vault, parsed, client, database, now).await
        }
        EnrolmentSecret::Jwt => {
            let grant = jwt(vault.unwrap_or_default(), secret, joiners, now).await?;
            // A used token is refused here, too, before anything else is told. The transaction
            // alone sees to it that only one of two calls at once passes.
            match &grant.admission {
                Admission::Jwt { digest, .. }
                    if database.is_jwt_used(digest).await.map_err(away)? =>
                {
                    Err(NotEnrolled::refused(EnrolmentFault::Reused))
                }
                _ => Ok(grant),
            }
        }
    }
}

/// A token is looked up by its digest: the time that this takes tells nothing about tokens that
/// begin alike.
async fn token(
    vault: Option<&str>,
    token: Option<EnrolmentToken>,
    client: Option<IpAddr>,
    database: &Database,
    now: u64,
) -> Result<EnrolmentGrant, NotEnrolled> {
    let unknown = || NotEnrolled::refused(EnrolmentFault::UnknownToken);
    let digest = token.ok_or_else(unknown)?.digest();
    let found = database.token(digest.as_bytes()).await.map_err(away)?;
    let stored = found.ok_or_else(unknown)?;
    let terms = TokenTerms::parse(&stored.terms).map_err(|mistakes| {
        // Never seen: only this program writes them.
        warn!(
            token = stored.id,
            "the terms of the token cannot be read: {mistakes:?}"
        );
        unknown()
    })?;
    match fault(&stored, &terms, vault, client, now) {
        Some(cause) => Err(NotEnrolled::refused(cause)),
        None => Ok(EnrolmentGrant {
            admission: Admission::Token {
                id: stored.id.clone(),
            },
            by: AdmittedBy::Token(stored.id),
            vault: terms.vault,
            machine: terms.machine,
            name: None,
            name_pattern: terms.name_pattern,
            hostname_pattern: terms.hostname_pattern,
            require_proof: terms.require_proof,
            digest,
        }),
    }
}

/// The fault of a stored token, if it has one.
fn fault(
    stored: &StoredToken,
    terms: &TokenTerms,
    vault: Option<&str>,
    client: Option<IpAddr>,
    now: u64,
) -> Option<EnrolmentFault> {
    let faults = [
        (
            vault.is_some_and(|vault| vault != terms.vault),
            EnrolmentFault::OtherVault,
        ),
        (stored.revoked.is_some(), EnrolmentFault::Revoked),
        (now >= stored.expires, EnrolmentFault::Expired),
        (stored.uses >= stored.max_uses, EnrolmentFault::UsedUp),
        (!terms.may_be_used_from(client), EnrolmentFault::Network),
    ];
    let found = faults.into_iter().find(|(is_there, _)| *is_there);
    found.map(|(_, fault)| fault)
}

/// Several joiners may share an issuer: the first whose every condition the JWT meets lets it in.
async fn jwt(
    vault: &str,
    secret: &str,
    joiners: &[Arc<ActiveJoiner>],
    now: u64,
) -> Result<EnrolmentGrant, NotEnrolled> {
    let refused = NotEnrolled::refused;
    let jwt = Jwt::parse(secret).map_err(|_| refused(EnrolmentFault::Jwt))?;
    let mut refusal = refused(EnrolmentFault::NoJoiner);
    for active in joiners {
        let joiner = &active.joiner;
        if joiner.vault != vault || jwt.claimed_issuer() != Some(&*joiner.issuer) {
            continue;
        }
        let judged = match active.verify(&jwt).await {
            Ok(claims) => admit(active, &claims, secret, now),
            Err(Unverified::Token(_)) => Err(refused(EnrolmentFault::Signature)),
            Err(Unverified::NoKeys) => Err(NotEnrolled::unavailable(RegistryFault::Away)),
        };
        match judged {
            Ok(grant) => return Ok(grant),
            // If one cannot tell, it is not known that the JWT is wrong.
            Err(_) if refusal.cause == EnrolmentFault::Unavailable => {}
            Err(why) => refusal = why,
        }
    }
    Err(refusal)
}

/// Checks what a verified token says against what the joiner asks for.
fn admit(
    active: &ActiveJoiner,
    claims: &JwtClaims,
    secret: &str,
    now: u64,
) -> Result<EnrolmentGrant, NotEnrolled> {
    let joiner = &active.joiner;
    let refused = NotEnrolled::refused;
    if !claims.is_from(&joiner.issuer) {
        return Err(refused(EnrolmentFault::NoJoiner));
    }
    if !claims.is_for(&joiner.audience) {
        return Err(refused(EnrolmentFault::Audience));
    }
    let expires = claims.end_if_good_at(now);
    let expires = expires.ok_or_else(|| refused(EnrolmentFault::Time))?;
    let has = |(name, pattern): &(String, Pattern)| {
        claims.text(name).is_some_and(|text| pattern.matches(&text))
    };
    if !joiner.claims.iter().all(has) {
        return Err(refused(EnrolmentFault::Claims));
    }
    let name = match &joiner.machine_name {
        None => None,
        Some(template) => Some(template.fill(|claim| claims.text(claim)).map_err(|claim| {
            NotEnrolled::invalid(vec![format!(
                "jwt: has no claim {claim}, of which the machine's name is made."
            )])
        })?),
    };
    Ok(EnrolmentGrant {
        admission: Admission::Jwt {
            digest: *claims.digest(),
            expires,
        },
        by: AdmittedBy::Joiner {
            name: joiner.name.clone(),
            subject: claims.text("sub"),
        },
        vault: joiner.vault.clone(),
        machine: joiner.machine.clone(),
        name,
        name_pattern: None,
        hostname_pattern: None,
        require_proof: true,
        digest: SecretDigest::of(secret),
    })
}

pub(super) fn away(error: WriteError) -> NotEnrolled {
    warn!(%error, "the registry's database could not be read");
    NotEnrolled::unavailable(RegistryFault::Away)
}
