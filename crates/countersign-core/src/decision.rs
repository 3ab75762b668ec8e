//! The decision is a sequence of values. Only one step can make each value, from the value before.
//!
//! [`Attempt`] (parsed) → [`Timely`] (inside the window) → [`Attributed`] (a machine looked up) →
//! [`Signed`] (the signature is good) → [`Verified`] (the machine may act) → [`Admitted`] (the
//! nonce was fresh). Every field is private, so a step cannot be left out: "authenticated" is a
//! value that exists, never a flag, and never the absence of an error.

use std::sync::Arc;

use super::headers::SigningHeaders;
use super::identity::{Machine, PublicKey};
use super::message::{BodyHash, Message, Timestamp, Unhashed};
use super::method::Method;
use super::refusal::Refusal;
use super::replay::{Claim, NonceStore, Window};
use super::signature::{Signature, stand_in_key};
use super::target::SignedTarget;

/// A request whose parts are all well formed. Nothing about it is known to be true.
#[derive(Debug)]
pub struct Attempt<'a> {
    machine_id: &'a str,
    message: Unhashed,
    signature: Signature,
}

/// An [`Attempt`] inside the time window.
#[derive(Debug)]
pub struct Timely<'a>(Attempt<'a>);

/// A timely attempt, with the machine it claims to come from. Whether that machine exists is
/// known from here on, and must not show until the signature has verified.
#[derive(Debug)]
pub struct Attributed {
    machine: Option<Arc<Machine>>,
    message: Unhashed,
    signature: Signature,
}

/// A verified request: a machine of the registry signed it. The machine may still be disabled.
#[derive(Debug)]
pub struct Signed {
    machine: Arc<Machine>,
    /// Which of the machine's keys.
    key: usize,
    message: Message,
    signature: Signature,
}

/// A request whose signature does not verify: the machine is unknown, or none of its keys made the
/// signature. The client cannot tell the two apart; the audit record can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unproved {
    /// Whether the machine is in the registry.
    pub machine_known: bool,
    /// The hash of the body that was read.
    pub body: BodyHash,
}

impl From<Unproved> for Refusal {
    fn from(_: Unproved) -> Refusal {
        Refusal::BadSignature
    }
}

/// A verified request of a machine that may act now.
#[derive(Debug)]
pub struct Verified(Signed);

/// A verified request whose nonce has been spent for it, and for nothing else, ever.
#[derive(Debug)]
pub struct Admitted(Signed);

/// A refusal of a request whose signature is good. The audit record names the machine.
#[derive(Debug)]
pub struct Denied {
    /// The refusal.
    pub refusal: Refusal,
    /// The message and the machine that signed it.
    pub signed: Signed,
}

impl<'a> Attempt<'a> {
    /// Puts together the parts that have been parsed.
    pub fn new(
        method: Method<'_>,
        target: SignedTarget<'_>,
        headers: SigningHeaders<'a>,
    ) -> Attempt<'a> {
        Attempt {
            machine_id: headers.machine_id,
            message: Unhashed::new(method, target, headers.timestamp, headers.nonce),
            signature: headers.signature,
        }
    }

    /// Checks the timestamp against the gateway's clock, in Unix seconds.
    ///
    /// # Errors
    ///
    /// [`Refusal::ClockSkew`] outside the window.
    pub fn check_time(self, now: u64, window: &Window) -> Result<Timely<'a>, Refusal> {
        if window.contains(now, self.message.timestamp()) {
            Ok(Timely(self))
        } else {
            Err(Refusal::ClockSkew { server_time: now })
        }
    }
}

impl Timely<'_> {
    /// Looks the machine up. An unknown machine goes on like a known one, to be refused with the
    /// signature.
    pub fn look_up(self, find: impl FnOnce(&str) -> Option<Arc<Machine>>) -> Attributed {
        // A registry that answered with another machine would be a bug; it must not become an
        // identity.
        let machine = find(self.0.machine_id).filter(|m| m.id.as_str() == self.0.machine_id);
        Attributed {
            machine,
            message: self.0.message,
            signature: self.0.signature,
        }
    }
}

impl Attributed {
    /// Looks the machine up once more, after a wait: a revocation in the meantime counts. An
    /// unknown machine stays unknown.
    pub fn look_up_again(mut self, find: impl FnOnce(&str) -> Option<Arc<Machine>>) -> Attributed {
        if let Some(known) = &self.machine {
            self.machine = find(known.id.as_str()).filter(|found| found.id == known.id);
        }
        self
    }

    /// Checks the signature over the message with the hash of the body that was read.
    ///
    /// # Errors
    ///
    /// [`Unproved`], a [`Refusal::BadSignature`] for an unknown machine and for a known one alike.
    /// An unknown machine costs the same work as one with a single key, so that timing does not
    /// tell them apart. Each further key costs one more check.
    pub fn verify(self, body: BodyHash) -> Result<Signed, Unproved> {
        let unproved = Unproved {
            machine_known: self.machine.is_some(),
            body,
        };
        let message = self.message.with_body(body);
        let Some(machine) = self.machine else {
            // The result is ignored; `black_box` keeps the compiler from removing the check.
            std::hint::black_box(self.signature.verifies(stand_in_key(), &message));
            return Err(unproved);
        };
        let key = machine
            .keys
            .iter()
            .position(|key| self.signature.verifies(&key.public, &message))
            .ok_or(unproved)?;
        Ok(Signed {
            machine,
            key,
            message,
            signature: self.signature,
        })
    }
}

impl Signed {
    /// Checks whether the machine may act at `now`, in Unix seconds, with the key that signed. All
    /// keys are tried before, whatever their dates: a request that none fits costs the same.
    ///
    /// # Errors
    ///
    /// [`Refusal::MachineDisabled`] or [`Refusal::MachineExpired`]. Only the holder of the private
    /// key gets this answer. The use of a key that was rotated out is recorded under its
    /// fingerprint, and not among the bad signatures of strangers.
    pub fn check_state(self, now: u64) -> Result<Verified, Box<Denied>> {
        match self.machine.may_act(&self.machine.keys[self.key], now) {
            Ok(()) => Ok(Verified(self)),
            Err(refusal) => Err(Box::new(Denied {
                refusal,
                signed: self,
            })),
        }
    }

    /// The machine that signed.
    pub fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// The key it signed with.
    pub fn key(&self) -> &PublicKey {
        &self.machine.keys[self.key].public
    }

    /// The message under the signature.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// The signature.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// When it signed.
    pub fn timestamp(&self) -> Timestamp {
        self.message.timestamp()
    }
}

impl Verified {
    /// Spends the nonce. This comes after the signature: an unsigned request must not be able to
    /// spend a nonce. It fails closed: a store that does not know refuses.
    ///
    /// # Errors
    ///
    /// [`Refusal::Replayed`], [`Refusal::Throttled`] for a machine over its quota, or
    /// [`Refusal::ReplayUnavailable`] where the store cannot know.
    pub async fn claim(self, store: &dyn NonceStore) -> Result<Admitted, Box<Denied>> {
        let Verified(signed) = self;
        let claim = Claim::new(signed.key(), signed.message.nonce(), signed.timestamp());
        match store.claim(claim).await {
            Ok(()) => Ok(Admitted(signed)),
            Err(error) => Err(Box::new(Denied {
                refusal: error.into(),
                signed,
            })),
        }
    }

    /// The verified request.
    pub fn signed(&self) -> &Signed {
        &self.0
    }
}

/// Computes the stand-in key ahead of time, so that the first unknown machine does not wait for it.
pub fn prepare() {
    stand_in_key();
}

impl Admitted {
    /// The admitted request.
    pub fn signed(&self) -> &Signed {
        &self.0
    }

    /// Refuses the request after all: the policy and the audit record are checked after the nonce.
    /// The nonce stays spent.
    pub fn deny(self, refusal: Refusal) -> Box<Denied> {
        Box::new(Denied {
            refusal,
            signed: self.0,
        })
    }
}

#[cfg(test)]
mod tests;
