//! The end of an existing log, from which its chain continues.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc::O_NONBLOCK;

use super::chain::{self, ChainHead};
use countersign_client::file::with_reserve;

/// Bytes at the end of a file that are searched for its last line: several times the longest
/// record, that of a registry.
const TAIL: u64 = 4 * 1024 * 1024;

/// Whether the last byte is a line feed. If the file cannot be read, it may not be: a power loss
/// or a full disk may have cut off the last line of the process before.
pub(super) fn ends_a_line(path: &Path) -> bool {
    let last = || -> io::Result<u8> {
        let mut file = open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut byte = [0];
        file.read_exact(&mut byte)?;
        Ok(byte[0])
    };
    last().is_ok_and(|byte| byte == b'\n')
}

/// The head of the chain in the file: its last whole line that has a number and a hash. `None`
/// where there is none, or where it is not a file.
///
/// # Errors
///
/// It cannot be read: the chain could not be continued.
pub(super) fn head(path: &Path) -> io::Result<Option<ChainHead>> {
    let mut file = match open(path) {
        Err(error) => {
            let text = format!(
                "{}: {error}; the chain continues from its end",
                path.display()
            );
            return Err(io::Error::new(error.kind(), text));
        }
        Ok(file) => file,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(metadata.len().saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    let whole = tail.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
    let mut lines = tail[..whole].rsplit(|byte| *byte == b'\n');
    Ok(lines.find_map(|line| Some(chain::claimed(line)?.1)))
}

/// Does not wait, even if the path is a pipe by now.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(O_NONBLOCK);
    with_reserve(|| options.open(path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::audit::testing::Scratch;

    fn head_of(content: &[u8]) -> Option<ChainHead> {
        let scratch = Scratch::new();
        let path = scratch.path("audit");
        std::fs::write(&path, content).unwrap();
        head(&path).unwrap()
    }

    fn lines(count: usize) -> (Vec<u8>, ChainHead) {
        let (mut content, mut head) = (Vec::new(), ChainHead::START);
        for n in 0..count {
            let mut line = format!("{{\"n\":{n}}}\n").into_bytes();
            head = head.link(&mut line);
            content.extend(line);
        }
        (content, head)
    }

    #[test]
    fn the_chain_stands_at_the_last_line() {
        let (content, head) = lines(3);
        assert_eq!(head_of(&content), Some(head));
    }

    #[test]
    fn a_torn_line_is_passed_over() {
        let (mut content, head) = lines(3);
        let (more, _) = lines(1);
        content.extend(&more[..more.len() - 1]);
        assert_eq!(head_of(&content), Some(head));
    }

    #[test]
    fn in_an_empty_file_and_one_without_a_chain_it_stands_nowhere() {
        assert_eq!(head_of(b""), None);
        assert_eq!(head_of(b"{}\n{}\n"), None);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_that_names_it() {
        let scratch = Scratch::new();
        let error = head(&scratch.path("missing")).unwrap_err();
        assert!(error.to_string().contains("missing"), "{error}");
    }
}
