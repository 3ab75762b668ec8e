//! A change of the registry from the command line: its text and its author.

use std::io::{self, Read};
use std::path::Path;

use super::command_error::CommandError;
use crate::registry::MAX_FILE;
use crate::registry::database::Author;
use crate::registry::new_machines::random_id;
use crate::yaml;

/// The text of a file or of standard input, and the name of that in messages.
pub(super) fn text_of(from: &Path) -> Result<(&Path, String), CommandError> {
    if from != Path::new("-") {
        return match yaml::text_of(from, MAX_FILE as usize, "list of machines") {
            Ok(text) => Ok((from, text)),
            Err(mistakes) => Err(CommandError::Configuration(mistakes.to_string())),
        };
    }
    let mut text = String::new();
    let read = (io::stdin().lock().take(MAX_FILE + 1)).read_to_string(&mut text);
    match read {
        Ok(_) if text.len() as u64 > MAX_FILE => Err(CommandError::Configuration(format!(
            "standard input is larger than {} MiB, which no list of machines is",
            MAX_FILE >> 20
        ))),
        Ok(_) => Ok((Path::new("standard input"), text)),
        Err(error) => Err(CommandError::Configuration(format!(
            "standard input cannot be read: {error}"
        ))),
    }
}

/// The author of a change that a person at this command makes.
pub(super) fn by_command_line(now: u64) -> Result<Author, CommandError> {
    let request_id = random_id().map_err(CommandError::Operation)?;
    Ok(Author {
        by: "command line".to_owned(),
        request_id: request_id.to_string(),
        at: now,
    })
}
