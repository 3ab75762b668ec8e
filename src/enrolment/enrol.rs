//! One enrolment, from its body to the machine in the database.

use std::net::IpAddr;
use std::sync::Arc;

use tracing::{info, warn};

use super::admission::{self, AdmittedBy};
use super::body::EnrolmentBody;
use super::call::EnrolmentCall;
use super::fault::{EnrolmentFault, NotEnrolled};
use super::issuer_keys::ActiveJoiner;
use super::new_machine::EnrollingMachine;
use crate::registry::CheckedEntry;
use crate::registry::database::{Admission, Author, Database, EnrolError, WriteError};
use crate::registry::new_machines::random_id;
use countersign_core::identity::{MachineId, PublicKey};
use countersign_core::refusal::{Refusal, RegistryFault};
use countersign_core::replay::Window;

/// A call to enrol a machine, and what the gateway knows of it.
pub struct EnrolmentRequest<'a> {
    /// The call that the path names.
    pub call: &'a EnrolmentCall,
    /// The body as sent.
    pub body: &'a [u8],
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The gateway's id of the request.
    pub request_id: &'a str,
    /// The accepted window of the proof's timestamp.
    pub window: Window,
    /// Unix seconds.
    pub now: u64,
}

/// A machine that was enrolled: its entry is in the database, and the use of its secret is counted.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// Its id.
    pub id: MachineId,
    /// Its name.
    pub name: String,
    /// Its vault.
    pub vault: String,
    /// Its owner, if the terms name one.
    pub owner: Option<String>,
    /// Its key.
    pub key: PublicKey,
    /// The host name that it told.
    pub hostname: String,
    /// Whether it proved that it holds its key.
    pub proved: bool,
    /// The token or joiner that let it in.
    pub by: AdmittedBy,
}

/// Whether an entry may stand beside the operators; the text says why not.
pub type EnrolmentObjection<'a> = &'a (dyn Fn(&CheckedEntry) -> Option<String> + Sync);

/// Enrols a machine: the form of the body, the secret, the key with its proof and its names, then
/// the one transaction that counts the use and adds the machine. Only a good secret learns anything
/// but that it is refused.
///
/// # Errors
///
/// [`NotEnrolled`]. No use is counted then, unless the refusal says that the result is unknown.
pub async fn enrol(
    request: &EnrolmentRequest<'_>,
    joiners: &[Arc<ActiveJoiner>],
    database: &Database,
    objection: EnrolmentObjection<'_>,
) -> Result<Enrolled, NotEnrolled> {
    let EnrolmentRequest {
        call, client, now, ..
    } = *request;
    let body = EnrolmentBody::parse(call.secret, request.body);
    let body = body.map_err(NotEnrolled::invalid)?;
    let judging = admission::judge(call, &body.secret, client, joiners, database, now);
    let grant = judging.await?;
    let machine = EnrollingMachine::check(&body, &grant, &request.window, now);
    let machine = machine.map_err(NotEnrolled::invalid)?;
    let id = random_id().map_err(|error| {
        warn!(request_id = request.request_id, %error, "a machine cannot be given an id");
        NotEnrolled {
            refusal: Refusal::Internal,
            cause: EnrolmentFault::Unavailable,
        }
    })?;
    let entry = machine.entry(&id, &grant, now);
    let entry = entry.map_err(NotEnrolled::invalid)?;
    if let Some(what) = objection(&entry) {
        return Err(taken(request.request_id, &what));
    }
    let author = Author {
        by: grant.by.to_string(),
        request_id: request.request_id.to_owned(),
        at: now,
    };
    let added = database.enrol(&grant.admission, &entry, &author).await;
    added.map_err(|error| refusal(error, &grant.admission, request.request_id))?;
    Ok(Enrolled {
        id,
        name: machine.name,
        vault: grant.vault,
        owner: grant.machine.owner,
        key: machine.key,
        hostname: machine.hostname,
        proved: machine.proved,
        by: grant.by,
    })
}

fn refusal(error: EnrolError, admission: &Admission, request_id: &str) -> NotEnrolled {
    match error {
        // It was good a moment ago: others have used it up meanwhile.
        EnrolError::Refused => NotEnrolled::refused(match admission {
            Admission::Token { .. } => EnrolmentFault::UsedUp,
            Admission::Jwt { .. } => EnrolmentFault::Reused,
        }),
        EnrolError::Write(WriteError::Invalid(mistakes)) => NotEnrolled::invalid(mistakes),
        EnrolError::Write(WriteError::Exists(what)) => taken(request_id, &what),
        EnrolError::Write(
            error @ (WriteError::NoMachine | WriteError::Refused(_) | WriteError::Unavailable(_)),
        ) => {
            warn!(%error, "the registry's database did not confirm an enrolment");
            NotEnrolled::unavailable(RegistryFault::Unknown)
        }
    }
}

/// The key is that of another machine or an operator. The log says whose; the client does not learn
/// it.
fn taken(request_id: &str, what: &str) -> NotEnrolled {
    info!(request_id, what, "an enrolment asked for what is taken");
    NotEnrolled::invalid(vec![
        "publicKey: the key is taken; make another key.".to_owned(),
    ])
}

impl std::fmt::Display for AdmittedBy {
    /// As the log of changes has it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AdmittedBy::Token(id) => write!(f, "token:{id}"),
            AdmittedBy::Joiner { name, .. } => write!(f, "joiner:{name}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
