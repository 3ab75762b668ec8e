//! The options that name a machine and its key.

use std::io;
use std::path::{Path, PathBuf};

use super::command_error::CommandError;
use crate::config::MachineCredentials;
use countersign_client::signing::{Signer, Unsignable, key_file};

/// The machine that a command signs for once.
#[derive(Debug, clap::Args)]
pub(super) struct SignerArgs {
    /// The machine's private key (PKCS#8 PEM, mode 0600 or stricter); - is standard input
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The id under which the registry knows the machine
    #[arg(long, value_name = "ID")]
    machine_id: String,
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
    /// A SikkerKey identity directory, in place of --key, --machine-id and --gateway
    #[arg(long, value_name = "DIR", conflicts_with = "key")]
    identity: Option<PathBuf>,
}

impl SignerArgs {
    /// Reads the key.
    ///
    /// # Errors
    ///
    /// The file or the id is wrong. The text holds nothing of the file's content.
    pub(super) fn signer(&self) -> Result<Signer, CommandError> {
        let (name, key) = match self.key_is_stdin() {
            true => ("--key -", key_file::read_from(&mut io::stdin().lock())),
            false => ("", key_file::read_private(&self.key)),
        };
        let private = key.map_err(|fault| match name {
            "" => CommandError::Configuration(format!("{}: {fault}", self.key.display())),
            name => CommandError::Configuration(format!("{name}: {fault}")),
        })?;
        Ok(Signer::new(&self.machine_id, private)?)
    }

    /// Whether the key takes standard input, which then holds nothing else.
    pub(super) fn key_is_stdin(&self) -> bool {
        self.key == Path::new("-")
    }
}

impl IdentityArgs {
    /// The machine that the options name.
    ///
    /// # Errors
    ///
    /// [`CommandError::Usage`]: they name none.
    pub(super) fn machine(&self) -> Result<MachineCredentials, CommandError> {
        match (&self.key, &self.machine_id, &self.identity) {
            (_, _, Some(folder)) => Ok(MachineCredentials::Identity(folder.clone())),
            (Some(file), Some(id), None) => Ok(MachineCredentials::Key {
                file: file.clone(),
                machine_id: id.clone(),
            }),
            _ => Err(CommandError::Usage(
                "no machine: name it with --key FILE and --machine-id ID, or with --identity DIR"
                    .into(),
            )),
        }
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
            key: PathBuf::from("/nowhere/key.pem"),
            machine_id: "web-1".to_owned(),
        };
        let error = args.signer().map(|_| ()).map_err(|error| error.exit_code());
        assert_eq!(error, Err(78));
    }
}
