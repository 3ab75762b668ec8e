//! The machine that an assertion is about.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use moka::Equivalent;

use countersign_core::decision::Signed;
use countersign_core::identity::{Machine, PublicKey};

/// A machine that has signed a request, and the key that it signed with. Only a request whose
/// signature has verified makes one.
///
/// Two subjects are equal if they are the same state of a machine in the registry. A registry that
/// is loaded again shares the machines that have not changed with the one before. So a machine that
/// was changed in any way (disabled, given other keys or groups) is another subject by construction.
/// The machine is held, so that no other can take its place in memory.
#[derive(Clone, Debug)]
pub(crate) struct AssertedMachine {
    machine: Arc<Machine>,
    key: PublicKey,
}

/// The subject that a signed request would make, for a look-up.
#[derive(Clone, Copy)]
pub(crate) struct SignerOf<'a>(pub(crate) &'a Signed);

impl AssertedMachine {
    pub(crate) fn of(signed: &Signed) -> AssertedMachine {
        AssertedMachine {
            machine: Arc::clone(signed.machine()),
            key: *signed.key(),
        }
    }

    pub(crate) fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    pub(super) fn key(&self) -> &PublicKey {
        &self.key
    }
}

impl PartialEq for AssertedMachine {
    fn eq(&self, other: &AssertedMachine) -> bool {
        Arc::ptr_eq(&self.machine, &other.machine) && self.key == other.key
    }
}

impl Eq for AssertedMachine {}

impl Hash for AssertedMachine {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash(&self.machine, &self.key, state);
    }
}

/// Equal to the hash of the subject, as [`Equivalent`] requires.
impl Hash for SignerOf<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash(self.0.machine(), self.0.key(), state);
    }
}

impl Equivalent<AssertedMachine> for SignerOf<'_> {
    fn equivalent(&self, subject: &AssertedMachine) -> bool {
        Arc::ptr_eq(self.0.machine(), &subject.machine) && *self.0.key() == subject.key
    }
}

fn hash<H: Hasher>(machine: &Arc<Machine>, key: &PublicKey, state: &mut H) {
    Arc::as_ptr(machine).hash(state);
    key.as_bytes().hash(state);
}
