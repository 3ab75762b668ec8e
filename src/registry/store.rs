//! The registry in force: readers take it without waiting, a reload swaps it whole or not at all.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};

use super::load::{self, build};
use super::{Change, Mistakes, Registry};
use crate::auth::identity::{Machine, PublicKey};

/// The current registry of one file.
pub struct RegistryStore {
    file: PathBuf,
    current: ArcSwap<Registry>,
    /// One reload at a time: two that overlap could leave the older file in force.
    reloading: Mutex<()>,
}

impl RegistryStore {
    /// Loads the file for the first time. The change is from no machines at all.
    ///
    /// # Errors
    ///
    /// All the mistakes: without a good registry there is no store.
    pub fn open(file: &Path) -> Result<(RegistryStore, Change), Mistakes> {
        let registry = Registry::load(file, None)?;
        let change = Change::between(&Registry::default(), &registry);
        let store = RegistryStore {
            file: file.to_owned(),
            current: ArcSwap::from_pointee(registry),
            reloading: Mutex::new(()),
        };
        Ok((store, change))
    }

    /// The file it is loaded from.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The registry in force at this moment.
    pub fn current(&self) -> Arc<Registry> {
        self.current.load_full()
    }

    /// The machine with this id, in the registry in force at this moment: the one lookup of a request.
    pub fn find(&self, id: &str) -> Option<Arc<Machine>> {
        self.current.load().find(id).cloned()
    }

    /// Loads the file again and puts it in force. It blocks, for seconds with a hundred thousand new keys, so it is
    /// not for a thread that serves requests.
    ///
    /// # Errors
    ///
    /// All the mistakes; then the last good registry stays in force.
    pub fn reload(&self) -> Result<Change, Mistakes> {
        // What the mutex guards is the order of reloads; there is no state a panic could have left half done.
        let _one_at_a_time = self
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let old = self.current();
        let bytes = load::read(&self.file)?;
        if old.digest() == <[u8; 32]>::from(Sha256::digest(&bytes)) {
            return Ok(Change::between(&old, &old));
        }
        let new = Arc::new(build(
            &self.file,
            &bytes,
            Some(&old),
            &PublicKey::from_bytes,
        )?);
        self.current.store(Arc::clone(&new));
        Ok(Change::between(&old, &new))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::fixtures::{entry, file};
    use super::*;
    use std::fs;

    struct Fixture {
        _directory: tempfile::TempDir,
        path: PathBuf,
    }

    impl Fixture {
        fn with(items: &str) -> (Fixture, RegistryStore) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("m.yaml");
            let fixture = Fixture {
                _directory: directory,
                path,
            };
            fixture.write(&file(items));
            let (store, _) = RegistryStore::open(&fixture.path).unwrap();
            (fixture, store)
        }

        fn write(&self, text: &str) {
            fs::write(&self.path, text).unwrap();
        }
    }

    #[test]
    fn the_first_load_counts_every_machine_as_added() {
        let (fixture, _) = Fixture::with(&(entry("a", 1) + &entry("b", 2)));
        let (store, change) = RegistryStore::open(&fixture.path).unwrap();
        assert_eq!(change.added.len(), 2);
        assert_eq!(change.digest, store.current().digest());
    }

    #[test]
    fn a_store_does_not_open_without_a_good_file() {
        let (fixture, _) = Fixture::with(&entry("a", 1));
        assert!(RegistryStore::open(&fixture.path.with_extension("none")).is_err());
    }

    #[test]
    fn a_reload_puts_the_new_file_in_force() {
        let (fixture, store) = Fixture::with(&entry("a", 1));
        fixture.write(&file(&entry("b", 2)));
        let change = store.reload().unwrap();
        assert_eq!((change.added.len(), change.removed.len()), (1, 1));
        assert!(store.find("a").is_none());
        assert!(store.find("b").is_some());
    }

    #[test]
    fn a_disabled_machine_is_disabled_after_the_reload() {
        let (fixture, store) = Fixture::with(&entry("a", 1));
        fixture.write(&file(&(entry("a", 1) + "    enabled: false\n")));
        store.reload().unwrap();
        assert!(!store.find("a").unwrap().enabled);
    }

    #[test]
    fn whatever_is_wrong_with_the_new_file_the_last_good_registry_stays() {
        let (fixture, store) = Fixture::with(&entry("a", 1));
        let before = store.current();
        let half = file(&entry("a", 1));
        for bad in [
            "",
            "machines:",
            "not: [yaml",
            &half[..half.len() - 5],
            &file(&(entry("a", 1) + &entry("a", 2))),
        ] {
            fixture.write(bad);
            assert!(store.reload().is_err(), "{bad:?}");
            assert!(Arc::ptr_eq(&before, &store.current()));
        }
        fs::remove_file(&fixture.path).unwrap();
        assert!(store.reload().is_err());
        assert!(store.find("a").is_some());
    }

    #[test]
    fn a_good_file_after_a_bad_one_counts() {
        let (fixture, store) = Fixture::with(&entry("a", 1));
        fixture.write("bad");
        store.reload().unwrap_err();
        fixture.write(&file(&entry("b", 2)));
        store.reload().unwrap();
        assert!(store.find("b").is_some());
    }

    #[test]
    fn an_empty_list_takes_every_machine_out_because_somebody_wrote_it() {
        let (fixture, store) = Fixture::with(&entry("a", 1));
        fixture.write("machines: []\n");
        assert_eq!(store.reload().unwrap().removed.len(), 1);
        assert!(store.current().is_empty());
    }

    #[test]
    fn the_same_bytes_are_not_loaded_again() {
        let (_fixture, store) = Fixture::with(&entry("a", 1));
        let before = store.current();
        assert!(store.reload().unwrap().is_nothing());
        assert!(Arc::ptr_eq(&before, &store.current()));
    }

    #[test]
    fn unchanged_machines_are_shared_with_the_registry_before() {
        let (fixture, store) = Fixture::with(&(entry("a", 1) + &entry("b", 2)));
        let before = store.find("a").unwrap();
        fixture.write(&file(&(entry("a", 1) + &entry("b", 3))));
        store.reload().unwrap();
        assert!(Arc::ptr_eq(&before, &store.find("a").unwrap()));
    }

    #[test]
    fn who_holds_the_old_registry_keeps_it_whole() {
        let (fixture, store) = Fixture::with(&entry("a", 1));
        let before = store.current();
        fixture.write("machines: []\n");
        store.reload().unwrap();
        assert!(before.find("a").is_some());
    }
}
