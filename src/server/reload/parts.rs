//! The parts of a running gateway that a reload touches.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::audit::AuditLog;
use crate::gateway::Gateway;
use crate::metrics::{Files, Metrics};
use crate::registry::{Operators, RegistryStore};
use crate::server::listen::tls::Tls;
use countersign_client::clock::Clock;

/// The parts that a reload replaces. Each kind of file has a method, in a file of its own.
pub(crate) struct ReloadedParts {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) registry: Arc<RegistryStore>,
    pub(crate) operators: Option<Arc<Operators>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) audit: Arc<AuditLog>,
    pub(crate) clock: Clock,
    pub(crate) tls: Vec<Arc<Tls>>,
}

impl ReloadedParts {
    /// The paths of a kind of file.
    pub(super) fn files(&self, files: Files) -> Vec<PathBuf> {
        match files {
            Files::Registry => self.registry.watched(),
            Files::Operators => {
                let operators = self.operators.iter();
                operators.map(|it| it.file().to_owned()).collect()
            }
            Files::Configuration => vec![self.gateway.plan().config.file.clone()],
            Files::Credentials => {
                let plan = self.gateway.plan();
                let files = plan
                    .credentials()
                    .filter_map(|credential| credential.file());
                let keys = plan.assertions().into_iter().flat_map(|it| it.files());
                let joiners = plan.joiners().iter().filter_map(|joiner| joiner.file());
                let all = files.chain(keys).chain(joiners);
                all.map(Path::to_owned).collect()
            }
            Files::Tls => {
                let tls = self.tls.iter().flat_map(|tls| tls.files());
                tls.map(Path::to_owned).collect()
            }
        }
    }
}

/// The name of a kind of file in the log.
pub(super) fn name_of(files: Files) -> &'static str {
    match files {
        Files::Registry => "the registry",
        Files::Operators => "the operators",
        Files::Configuration => "the configuration",
        Files::Credentials => "the files of the credentials",
        Files::Tls => "the certificates",
    }
}
