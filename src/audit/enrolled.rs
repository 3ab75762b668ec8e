//! The record of an enrolment: who let which machine in.

use std::net::IpAddr;

use serde::{Serialize, Serializer};

use super::hex::Hex;
use super::line::Base64;
use super::record::RequestFacts;
use super::record_time::RecordTime;
use super::untrusted::{PathOnly, SentMethod};
use crate::metrics::Auth;
use countersign_core::identity::{MachineId, PublicKey};

/// A machine that was enrolled. It is written once the machine is in the registry, and before the
/// machine is told.
#[derive(Clone, Copy, Debug)]
pub struct EnrolledRecord<'a> {
    /// The request.
    pub request: RequestFacts<'a>,
    /// The machine's id.
    pub machine: &'a MachineId,
    /// Its name.
    pub name: &'a str,
    /// Its vault.
    pub vault: &'a str,
    /// Its owner, if it has one.
    pub owner: Option<&'a str>,
    /// Its key.
    pub key: &'a PublicKey,
    /// The host name that it told.
    pub hostname: &'a str,
    /// Whether it proved that it holds its key.
    pub proved: bool,
    /// The token or joiner that let it in.
    pub by: EnrolledBy<'a>,
}

/// The token or joiner that let a machine in. Neither the token nor the JWT is recorded.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub enum EnrolledBy<'a> {
    /// A token.
    Token {
        /// Its id.
        token: &'a str,
    },
    /// A joiner.
    Joiner {
        /// Its name in the configuration.
        joiner: &'a str,
        /// The claim `sub` of the JWT.
        #[serde(skip_serializing_if = "Option::is_none")]
        subject: Option<&'a str>,
    },
}

impl Serialize for EnrolledRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct MachineFields<'a> {
            id: &'a str,
            name: &'a str,
            vault: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            owner: Option<&'a str>,
            key: Hex<[u8; 8]>,
            public_key: Base64<&'a [u8; 32]>,
        }
        #[derive(Serialize)]
        struct EnrolledKey<'a> {
            id: &'a str,
            public_keys: [Base64<&'a [u8; 32]>; 1],
        }
        #[derive(Serialize)]
        struct EnrolledFields<'a> {
            ts: RecordTime,
            request_id: &'a str,
            decision: &'static str,
            auth: &'static str,
            machine: MachineFields<'a>,
            hostname: &'a str,
            enrolled_by: EnrolledBy<'a>,
            proved: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            client_ip: Option<IpAddr>,
            #[serde(skip_serializing_if = "Option::is_none")]
            peer_ip: Option<IpAddr>,
            method: SentMethod<'a>,
            path: PathOnly<'a>,
            #[serde(skip_serializing_if = "Option::is_none")]
            route: Option<&'a str>,
            keys: [EnrolledKey<'a>; 1],
        }
        let public_key = Base64(self.key.as_bytes());
        EnrolledFields {
            ts: RecordTime::of(self.request.wall_ms),
            request_id: self.request.request_id,
            decision: "enrolled",
            auth: Auth::None.as_str(),
            machine: MachineFields {
                id: self.machine.as_str(),
                name: self.name,
                vault: self.vault,
                owner: self.owner,
                key: Hex(self.key.fingerprint().to_bytes()),
                public_key: Base64(self.key.as_bytes()),
            },
            hostname: self.hostname,
            enrolled_by: self.by,
            proved: self.proved,
            client_ip: self.request.client_ip,
            peer_ip: self.request.peer_ip,
            method: self.request.method,
            path: self.request.path,
            route: self.request.route,
            keys: [EnrolledKey {
                id: self.machine.as_str(),
                public_keys: [public_key],
            }],
        }
        .serialize(serializer)
    }
}
