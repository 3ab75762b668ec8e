//! A reserve of file descriptors. They are closed when the process has none left to read a file
//! with.

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::libc::{EMFILE, ENFILE};

/// Pairs of descriptors. One is too few, because a listener may take the freed descriptors for new
/// connections. A listener pauses after a failed accept, so it does not take all of them.
const PAIRS: usize = 4;

struct Reserve {
    pairs: Vec<(UnixStream, UnixStream)>,
    wanted: usize,
}

/// The reserve of the process, because all threads share its descriptor table.
fn reserve() -> MutexGuard<'static, Reserve> {
    static RESERVE: Mutex<Reserve> = Mutex::new(Reserve {
        pairs: Vec::new(),
        wanted: 0,
    });
    RESERVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a reserve from now on, for a process in which clients open descriptors.
pub fn keep() {
    reserve().wanted = PAIRS;
    refill();
}

/// Refills the reserve as far as the descriptor limit allows.
pub(super) fn refill() {
    reserve().refill();
}

/// Opens a file. If the process has no descriptor left, the reserve frees some.
///
/// # Errors
///
/// The errors of `try_open`.
pub fn open(try_open: impl Fn() -> io::Result<File>) -> io::Result<File> {
    match try_open() {
        opened if is_exhausted(&opened) => open_with(opened, try_open, || reserve().pairs.pop()),
        opened => opened,
    }
}

/// Frees descriptors until the file opens. The lock is not held meanwhile, because opening may hang
/// and must not block other files.
fn open_with(
    mut opened: io::Result<File>,
    try_open: impl Fn() -> io::Result<File>,
    mut give_back: impl FnMut() -> Option<(UnixStream, UnixStream)>,
) -> io::Result<File> {
    while is_exhausted(&opened)
        && let Some(pair) = give_back()
    {
        drop(pair);
        opened = try_open();
    }
    opened
}

impl Reserve {
    fn refill(&mut self) {
        while self.pairs.len() < self.wanted {
            match UnixStream::pair() {
                Ok(pair) => self.pairs.push(pair),
                Err(_) => return,
            }
        }
    }
}

fn is_exhausted(opened: &io::Result<File>) -> bool {
    let code = opened.as_ref().err().and_then(io::Error::raw_os_error);
    matches!(code, Some(EMFILE | ENFILE))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn exhausted() -> io::Result<File> {
        Err(io::Error::from_raw_os_error(EMFILE))
    }

    fn full() -> Reserve {
        let mut reserve = Reserve {
            pairs: Vec::new(),
            wanted: PAIRS,
        };
        reserve.refill();
        assert_eq!(reserve.pairs.len(), PAIRS);
        reserve
    }

    #[test]
    fn the_reserve_is_given_back_until_the_file_is_open_and_filled_again() {
        let mut reserve = full();
        // Another thread takes the first freed descriptors.
        let stolen = Cell::new(2);
        let try_open = || match stolen.get() {
            0 => File::open("/"),
            left => {
                stolen.set(left - 1);
                exhausted()
            }
        };
        let opened = open_with(exhausted(), try_open, || reserve.pairs.pop());
        assert!(opened.is_ok());
        assert_eq!(reserve.pairs.len(), PAIRS - 3);
        reserve.refill();
        assert_eq!(reserve.pairs.len(), PAIRS);
    }

    #[test]
    fn where_the_reserve_does_not_help_the_error_is_told() {
        let mut reserve = full();
        let error = open_with(exhausted(), exhausted, || reserve.pairs.pop()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(EMFILE));
        assert!(reserve.pairs.is_empty());
    }

    #[test]
    fn another_error_costs_nothing_of_the_reserve() {
        let mut reserve = full();
        let missing = open_with(
            Err(io::ErrorKind::NotFound.into()),
            || File::open("/"),
            || reserve.pairs.pop(),
        );
        assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(reserve.pairs.len(), PAIRS);
    }
}
