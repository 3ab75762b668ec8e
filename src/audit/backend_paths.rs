//! The paths that an adapter asked the backend for, in a response record.

use serde::Serialize;

/// Most paths that a record names: an adapter makes at most 1,256 reads for one request. Beyond it
/// only the count tells.
const MOST: usize = 1300;

/// Most bytes of all paths together; 1,300 of 50 bytes. A record line stays far below what its
/// readers take.
const MOST_BYTES: usize = 64 * 1024;

/// The targets of the reads, in the order in which they were begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BackendPaths {
    /// How many there were.
    count: usize,
    /// The first of them.
    paths: Vec<String>,
    #[serde(skip)]
    bytes: usize,
}

impl BackendPaths {
    /// Those of a request that was forwarded itself.
    pub const NONE: BackendPaths = BackendPaths {
        count: 0,
        paths: Vec::new(),
        bytes: 0,
    };

    /// Notes a target. It has no query, and is at most as long as a request target.
    pub fn note(&mut self, target: &str) {
        self.count += 1;
        // Once one is left out, so are all behind it: the list has no gaps.
        let is_whole = self.paths.len() + 1 == self.count;
        if is_whole && self.paths.len() < MOST && self.bytes + target.len() <= MOST_BYTES {
            self.bytes += target.len();
            self.paths.push(target.to_owned());
        }
    }

    /// Whether there is nothing to write.
    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn written(paths: &BackendPaths) -> String {
        serde_json::to_string(paths).unwrap()
    }

    #[test]
    fn paths_are_written_in_order_with_their_count() {
        let mut paths = BackendPaths::NONE;
        assert!(paths.is_empty());
        paths.note("/v1/kv/metadata/");
        paths.note("/v1/kv/data/a");
        assert_eq!(
            written(&paths),
            r#"{"count":2,"paths":["/v1/kv/metadata/","/v1/kv/data/a"]}"#
        );
    }

    #[test]
    fn paths_beyond_the_bounds_are_counted() {
        let mut many = BackendPaths::NONE;
        let mut long = BackendPaths::NONE;
        for number in 0..MOST + 7 {
            many.note(&format!("/{number}"));
            long.note(&"a".repeat(4096));
            long.note("/short");
        }
        assert_eq!((many.paths.len(), many.count), (MOST, MOST + 7));
        assert_eq!(many.paths.last().unwrap(), &format!("/{}", MOST - 1));
        assert!(written(&long).len() < MOST_BYTES + 4096);
        assert_eq!(long.count, 2 * (MOST + 7));
    }
}
