//! `countersign keygen`: generates a key for a machine. The private half goes to a file, the public
//! half to standard output.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::command_error::CommandError;
use crate::registry::key_format;
use countersign_client::signing::new_key;

/// Generate an Ed25519 key: write the private half to a new file, print the public half
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  # generate a key and register its machine
  countersign machine add --registry machines.yaml --name web-1 \\
      --public-key \"$(countersign keygen --out key.pem)\"")]
pub(super) struct KeygenArgs {
    /// The new file for the private key (PKCS#8 PEM, mode 0600)
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Makes the key, writes the file, and prints the public key in base64, alone on its line.
///
/// # Errors
///
/// [`CommandError::Operation`]: the file exists already or cannot be written, or the system has no
/// randomness.
pub(super) fn run(args: &KeygenArgs, out: &mut dyn Write) -> Result<(), CommandError> {
    let key = new_key::generate().map_err(|error| CommandError::Operation(error.to_string()))?;
    new_key::write(&args.out, &key).map_err(|error| cannot_write(&args.out, &error))?;
    let public = key.verifying_key();
    writeln!(out, "{}", key_format::to_base64(public.as_bytes())).map_err(|error| {
        CommandError::Operation(format!(
            "cannot print the public key: {error}. The private key is in {}",
            args.out.display()
        ))
    })
}

fn cannot_write(path: &Path, error: &io::Error) -> CommandError {
    let path = path.display();
    CommandError::Operation(if error.kind() == io::ErrorKind::AlreadyExists {
        format!(
            "cannot write {path}: the file exists, and a key is never overwritten. Name another file \
             with --out"
        )
    } else {
        format!("cannot write {path}: {error}")
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use ed25519_dalek::SigningKey;
    use ed25519_dalek::pkcs8::DecodePrivateKey;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    struct Made {
        directory: tempfile::TempDir,
        printed: String,
    }

    impl Made {
        fn new() -> Made {
            let directory = tempfile::tempdir().unwrap();
            let printed = keygen(&directory.path().join("key.pem")).unwrap();
            Made { directory, printed }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("key.pem")
        }

        fn pem(&self) -> String {
            fs::read_to_string(self.path()).unwrap()
        }
    }

    fn keygen(path: &Path) -> Result<String, CommandError> {
        let mut out = Vec::new();
        run(&KeygenArgs { out: path.into() }, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_public_key_is_printed_alone_on_its_line() {
        let made = Made::new();
        assert_eq!(made.printed.len(), 45);
        assert!(made.printed.ends_with("=\n"));
        assert!(key_format::parse(made.printed.trim_end()).is_ok());
    }

    #[test]
    fn the_private_key_is_the_one_whose_public_half_was_printed() {
        let made = Made::new();
        let key = SigningKey::from_pkcs8_pem(&made.pem()).unwrap();
        let public = key_format::to_base64(key.verifying_key().as_bytes());
        assert_eq!(public, made.printed.trim_end());
    }

    #[test]
    fn the_file_is_pkcs8_of_version_1_that_every_openssl_reads() {
        let pem = Made::new().pem();
        let lines: Vec<&str> = pem.lines().collect();
        assert_eq!(lines[0], "-----BEGIN PRIVATE KEY-----");
        assert_eq!(lines[2..], ["-----END PRIVATE KEY-----"]);
        let der = STANDARD.decode(lines[1]).unwrap();
        let hex: String = der[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "302e020100300506032b657004220420");
        assert_eq!(der.len(), 48);
    }

    #[test]
    fn nobody_else_may_read_the_file() {
        let mode = Made::new().path().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_exists_is_not_overwritten() {
        let made = Made::new();
        let before = made.pem();
        let Err(CommandError::Operation(text)) = keygen(&made.path()) else {
            unreachable!("refused")
        };
        assert!(text.contains("never overwritten"), "{text}");
        assert_eq!(made.pem(), before);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("key.pem");
        std::os::unix::fs::symlink(directory.path().join("other"), &link).unwrap();
        assert!(keygen(&link).is_err());
        assert!(!directory.path().join("other").exists());
    }

    #[test]
    fn a_directory_that_is_missing_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing/key.pem");
        let Err(CommandError::Operation(text)) = keygen(&path) else {
            unreachable!("refused")
        };
        assert!(text.starts_with("cannot write "), "{text}");
        assert!(text.contains("missing/key.pem: No such file"), "{text}");
    }

    #[test]
    fn two_keys_are_two_keys() {
        assert_ne!(Made::new().printed, Made::new().printed);
    }

    #[test]
    fn a_machine_may_sign_with_it() {
        let made = Made::new();
        let bytes = key_format::parse(made.printed.trim_end()).unwrap();
        assert!(countersign_core::identity::PublicKey::from_bytes(&bytes).is_ok());
    }
}
