//! The body of a request that a command signs.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::command_error::CommandError;
use countersign_client::file::{self, FileFault};

/// The largest body that any route takes.
const MAX_BODY: usize = 32 * 1024 * 1024;

/// The body of a request.
#[derive(Debug, clap::Args)]
pub(super) struct BodyArgs {
    /// The request body; - is standard input
    #[arg(long, value_name = "FILE", alias = "body")]
    data: Option<PathBuf>,
}

impl BodyArgs {
    /// Reads the body. `stdin_is_taken`: another option reads standard input.
    ///
    /// # Errors
    ///
    /// [`CommandError::Operation`]: it cannot be read, or no route takes so much.
    /// [`CommandError::Usage`]: two options read standard input.
    pub(super) fn read(&self, stdin_is_taken: bool) -> Result<Vec<u8>, CommandError> {
        let failed = |text: String| CommandError::Operation(format!("--data: {text}"));
        match &self.data {
            None => Ok(Vec::new()),
            Some(path) if path == Path::new("-") => {
                if stdin_is_taken {
                    return Err(CommandError::Usage(
                        "--key - and --data - both read standard input: name a file for one of them"
                            .into(),
                    ));
                }
                let mut body = Vec::new();
                (std::io::stdin().take(MAX_BODY as u64 + 1))
                    .read_to_end(&mut body)
                    .map_err(|error| failed(format!("cannot read standard input: {error}")))?;
                match body.len() {
                    0..=MAX_BODY => Ok(body),
                    _ => Err(failed(
                        "standard input is larger than 32 MiB, which no route takes".into(),
                    )),
                }
            }
            Some(path) => file::read(path, MAX_BODY).map_err(|fault| match fault {
                FileFault::TooLarge(_) => {
                    failed(format!("{}, which no route takes", fault.of(path)))
                }
                _ => failed(fault.of(path).to_string()),
            }),
        }
    }
}
