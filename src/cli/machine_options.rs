//! The options that name a machine and its key.

use std::io;
use std::path::{Path, PathBuf};

use super::command_error::CommandError;
use crate::config::MachineCredentials;
use countersign_client::signing::{Signer, Unsignable, identity, key_file};

/// The machine that a command signs for once.
#[derive(Debug, clap::Args)]
pub(super) struct SignerArgs {
    /// The machine's private key (PKCS#8 PEM, mode 0600 or stricter); - is standard input
    #[arg(long, value_name = "FILE", requires = "machine_id")]
    key: Option<PathBuf>,
    /// The id under which the registry knows the machine
    #[arg(long, value_name = "ID", requires = "key")]
    machine_id: Option<String>,
    #[command(flatten)]
    stored: StoredIdentityArgs,
}

/// The machine that a command signs for as long as it runs.
#[derive(Debug, clap::Args)]
pub(super) struct IdentityArgs {
    /// The machine's private key (PKCS#8 PEM, mode 0600 or stricter)
    #[arg(long, value_name = "FILE", requires = "machine_id")]
    key: Option<PathBuf>,
    /// The id under which the registry knows the machine
    #[arg(long, value_name = "ID", requires = "key")]
    machine_id: Option<String>,
    #[command(flatten)]
    stored: StoredIdentityArgs,
}

/// An identity on the disk.
#[derive(Debug, clap::Args)]
struct StoredIdentityArgs {
    /// A SikkerKey identity directory, in place of --key, --machine-id and --gateway
    #[arg(long, value_name = "DIR", conflicts_with = "key")]
    identity: Option<PathBuf>,
    /// The folder of the identities, which holds one, in place of --identity
    #[arg(long, value_name = "DIR", conflicts_with_all = ["key", "identity"])]
    home: Option<PathBuf>,
}

impl SignerArgs {
    /// Reads the key.
    ///
    /// # Errors
    ///
    /// The options name no machine, or the file or the id is wrong. The text holds nothing of the
    /// file's content.
    pub(super) fn signer(&self) -> Result<Signer, CommandError> {
        if self.key_is_stdin() {
            let key = key_file::read_from(&mut io::stdin().lock());
            let key = key.map_err(|why| CommandError::Configuration(format!("--key -: {why}")))?;
            return Ok(Signer::new(
                self.machine_id.as_deref().unwrap_or_default(),
                key,
            )?);
        }
        let (file, id) = match credentials(&self.key, &self.machine_id, &self.stored)? {
            MachineCredentials::Key { file, machine_id } => (file, machine_id),
            MachineCredentials::Identity(folder) => {
                let found = identity::read(&folder).map_err(CommandError::Configuration)?;
                (found.key, found.machine_id)
            }
        };
        let key = key_file::read_private(&file)
            .map_err(|fault| CommandError::Configuration(format!("{}: {fault}", file.display())))?;
        Ok(Signer::new(&id, key)?)
    }

    /// Whether the key takes standard input, which then holds nothing else.
    pub(super) fn key_is_stdin(&self) -> bool {
        self.key.as_deref() == Some(Path::new("-"))
    }
}

impl IdentityArgs {
    /// The machine that the options name.
    ///
    /// # Errors
    ///
    /// [`CommandError::Usage`]: they name none. [`CommandError::Configuration`]: the folder of the
    /// identities holds none, or several.
    pub(super) fn machine(&self) -> Result<MachineCredentials, CommandError> {
        credentials(&self.key, &self.machine_id, &self.stored)
    }
}

fn credentials(
    key: &Option<PathBuf>,
    id: &Option<String>,
    stored: &StoredIdentityArgs,
) -> Result<MachineCredentials, CommandError> {
    match (key, id, &stored.identity, &stored.home) {
        (_, _, Some(folder), _) => Ok(MachineCredentials::Identity(folder.clone())),
        (_, _, None, Some(home)) => {
            let only = identity::only_one_in(home).map_err(CommandError::Configuration)?;
            Ok(MachineCredentials::Identity(only))
        }
        (Some(file), Some(id), None, None) => Ok(MachineCredentials::Key {
            file: file.clone(),
            machine_id: id.clone(),
        }),
        _ => Err(CommandError::Usage(
            "no machine: name it with --key FILE and --machine-id ID, with --identity DIR, or with \
             --home DIR"
                .into(),
        )),
    }
}

impl From<Unsignable> for CommandError {
    fn from(why: Unsignable) -> CommandError {
        match why {
            Unsignable::Id(_)
            | Unsignable::Method(_)
            | Unsignable::Target(_)
            | Unsignable::Query => CommandError::Usage(why.to_string()),
            Unsignable::Clock | Unsignable::Random(_) => CommandError::Operation(why.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_that_cannot_be_used_is_a_mistake_in_a_file() {
        let args = SignerArgs {
            key: Some(PathBuf::from("/nowhere/key.pem")),
            machine_id: Some("web-1".to_owned()),
            stored: StoredIdentityArgs {
                identity: None,
                home: None,
            },
        };
        let error = args.signer().map(|_| ()).map_err(|error| error.exit_code());
        assert_eq!(error, Err(78));
    }
}
