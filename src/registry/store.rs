//! The registry in force: readers take it without waiting, a reload swaps it whole or not at all.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};

use super::change::Change;
use super::database::Database;
use super::ids::IdCase;
use super::load::{self, build};
use super::snapshot::Registry;
use crate::yaml::Mistakes;
use countersign_core::identity::{Machine, PublicKey};

/// How many machines a reload may take away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Losses {
    /// Half of them at most: a file that lost more was cut off, or is another one.
    Few,
    /// Any number: the operator said so (`reload --force`).
    Any,
}

/// Fewer machines than this may all go at once: of three, taking two away is an edit by hand.
const MASS: usize = 4;

pub(super) fn is_mass_deletion(before: usize, removed: usize) -> bool {
    before >= MASS && 2 * removed > before
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The current registry of one file, or of a database.
pub struct RegistryStore {
    source: StoreSource,
    current: ArcSwap<Registry>,
    /// Whether [`IdCase::Folded`] holds.
    folds_case: AtomicBool,
    /// Until when the current registry counts, in milliseconds of [`Now::mono`].
    ///
    /// [`Now::mono`]: countersign_client::clock::Now::mono
    counts_until: AtomicU64,
    /// When its database last confirmed it, in the same milliseconds. It may be before the start.
    confirmed: AtomicI64,
}

enum StoreSource {
    File(PathBuf),
    Database(Database),
}

impl RegistryStore {
    /// Loads the file for the first time. The change is from no machines at all.
    ///
    /// # Errors
    ///
    /// All the mistakes: without a good registry there is no store.
    pub fn open(file: &Path, case: IdCase) -> Result<(RegistryStore, Change), Mistakes> {
        let registry = Registry::load_with(file, None, case)?;
        let change = Change::between(&Registry::default(), &registry);
        let store = RegistryStore {
            source: StoreSource::File(file.to_owned()),
            current: ArcSwap::from_pointee(registry),
            folds_case: AtomicBool::new(case == IdCase::Folded),
            counts_until: AtomicU64::new(u64::MAX),
            confirmed: AtomicI64::new(0),
        };
        Ok((store, change))
    }

    /// A store of machines in a database. It is empty, and counts for no request, until a
    /// [`Follower`](super::Follower) has read them.
    pub fn in_database(database: Database, case: IdCase) -> RegistryStore {
        database.set_case(case);
        RegistryStore {
            source: StoreSource::Database(database),
            current: ArcSwap::default(),
            folds_case: AtomicBool::new(case == IdCase::Folded),
            counts_until: AtomicU64::new(0),
            confirmed: AtomicI64::new(0),
        }
    }

    /// The file it is loaded from; `None` with a database.
    pub fn file(&self) -> Option<&Path> {
        match &self.source {
            StoreSource::File(file) => Some(file),
            StoreSource::Database(_) => None,
        }
    }

    /// The database that the machines are in; `None` with files.
    pub fn database(&self) -> Option<&Database> {
        match &self.source {
            StoreSource::File(_) => None,
            StoreSource::Database(database) => Some(database),
        }
    }

    /// Whether the registry in force counts at `mono`. It fails closed: a registry that its
    /// database has not confirmed for longer than `max_stale` counts for nobody. That of a file
    /// always counts.
    pub fn counts_at(&self, mono: Duration) -> bool {
        millis(mono) < self.counts_until.load(Ordering::Acquire)
    }

    /// How long ago the database last confirmed the registry in force, at `mono`; `None` for that
    /// of a file. A database that never did: since the start.
    pub fn staleness(&self, mono: Duration) -> Option<Duration> {
        self.database()?;
        let now = i64::try_from(millis(mono)).unwrap_or(i64::MAX);
        let age = now.saturating_sub(self.confirmed.load(Ordering::Relaxed));
        Some(Duration::from_millis(u64::try_from(age).unwrap_or(0)))
    }

    /// The registry in force was that of the database `age` before `mono`, and counts for
    /// `longest` from then on.
    pub(super) fn confirm(&self, mono: Duration, age: Duration, longest: Duration) {
        let now = i64::try_from(millis(mono)).unwrap_or(i64::MAX);
        let age_ms = i64::try_from(millis(age)).unwrap_or(i64::MAX);
        self.confirmed
            .store(now.saturating_sub(age_ms), Ordering::Relaxed);
        let until = millis((mono + longest).saturating_sub(age));
        self.counts_until.store(until, Ordering::Release);
    }

    /// The registry in force counts for nobody from now on.
    pub(super) fn expire(&self) {
        self.counts_until.store(0, Ordering::Release);
    }

    pub(super) fn put_in_force(&self, registry: Arc<Registry>) {
        self.current.store(registry);
    }

    /// The rule for the case of ids.
    pub(super) fn case(&self) -> IdCase {
        match self.folds_case.load(Ordering::SeqCst) {
            true => IdCase::Folded,
            false => IdCase::Exact,
        }
    }

    /// The registry in force at this moment.
    pub fn current(&self) -> Arc<Registry> {
        self.current.load_full()
    }

    /// The machine with this id, in the registry in force at this moment: the one lookup of a
    /// request.
    pub fn find(&self, id: &str) -> Option<Arc<Machine>> {
        self.current.load().find(id).cloned()
    }

    /// Sets the rule for the registries from now on.
    ///
    /// # Errors
    ///
    /// The registry in force breaks the rule. Then the rule before stays.
    pub fn set_case(&self, case: IdCase) -> Result<(), String> {
        // Before the look at the registry in force: one that comes after it is loaded by this rule.
        let before = (self.folds_case).swap(case == IdCase::Folded, Ordering::SeqCst);
        if let Some(database) = self.database() {
            database.set_case(case);
        }
        if case == IdCase::Exact {
            return Ok(());
        }
        match self.current.load().differing_in_case() {
            None => Ok(()),
            Some([one, other]) => {
                self.folds_case.store(before, Ordering::SeqCst);
                if let Some(database) = self.database() {
                    database.set_case(self.case());
                }
                let place = match &self.source {
                    StoreSource::File(file) => file.display().to_string(),
                    StoreSource::Database(database) => database.config().address.to_string(),
                };
                Err(format!(
                    "{place}: the ids {one} and {other} differ in case only, and the backend at \
                     which machines log in would take the two for one machine; rename one of them \
                     first"
                ))
            }
        }
    }

    /// Loads the file again and puts it in force. It blocks, for seconds with a hundred thousand
    /// machines, so a thread that serves requests must not call it. Calls must not overlap (the
    /// server queues them): the older of two files could stay in force.
    ///
    /// # Errors
    ///
    /// All the mistakes; then the last good registry stays in force.
    pub fn reload(&self, losses: Losses) -> Result<Change, Mistakes> {
        let old = self.current();
        let StoreSource::File(file) = &self.source else {
            // A follower reads databases.
            return Ok(Change::between(&old, &old));
        };
        let text = load::read(file)?;
        if old.digest() == <[u8; 32]>::from(Sha256::digest(&text)) {
            return Ok(Change::between(&old, &old));
        }
        let new = Arc::new(build(
            file,
            &text,
            Some(&old),
            self.case(),
            &PublicKey::from_bytes,
        )?);
        let change = Change::between(&old, &new);
        if losses == Losses::Few && is_mass_deletion(old.len(), change.removed.len()) {
            let text = format!(
                "{} of {} machines are gone, more than half, so the file is taken for a mistake; to put it \
                 in force all the same, run countersign reload --force, or restart",
                change.removed.len(),
                old.len()
            );
            return Err(Mistakes::only(file, None, text));
        }
        self.current.store(new);
        Ok(change)
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
            let (store, _) = RegistryStore::open(&fixture.path, IdCase::Exact).unwrap();
            (fixture, store)
        }

        fn write(&self, text: &str) {
            fs::write(&self.path, text).unwrap();
        }
    }

    #[test]
    fn the_first_load_counts_every_machine_as_added() {
        let (fixture, _) = Fixture::with(&(entry("a", 1) + &entry("b", 2)));
        let (store, change) = RegistryStore::open(&fixture.path, IdCase::Exact).unwrap();
        assert_eq!(change.added.len(), 2);
        assert_eq!(change.digest, store.current().digest());
    }

    #[test]
    fn a_store_does_not_open_without_a_good_file() {
        let (fixture, _) = Fixture::with(&entry("a", 1));
        assert!(RegistryStore::open(&fixture.path.with_extension("none"), IdCase::Exact).is_err());
    }

    #[test]
    fn a_reload_puts_the_new_file_in_force() {
        let (fixture, store) = Fixture::with(&entry("a", 1));
        fixture.write(&file(&entry("b", 2)));
        let change = store.reload(Losses::Few).unwrap();
        assert_eq!((change.added.len(), change.removed.len()), (1, 1));
        assert!(store.find("a").is_none());
        assert!(store.find("b").is_some());
    }

    #[test]
    fn a_disabled_machine_is_disabled_after_the_reload() {
        let (fixture, store) = Fixture::with(&entry("a", 1));
        fixture.write(&file(&(entry("a", 1) + "    enabled: false\n")));
        store.reload(Losses::Few).unwrap();
        assert!(!store.find("a").unwrap().enabled);
    }

    #[test]
    fn a_file_that_lost_more_than_half_of_its_machines_is_loaded_only_when_told_to() {
        let four: String = (0..4).map(|n| entry(&format!("m{n}"), n + 1)).collect();
        let (fixture, store) = Fixture::with(&four);
        fixture.write(&file(&entry("m0", 1)));
        let told = store.reload(Losses::Few).unwrap_err().to_string();
        assert!(told.contains("3 of 4 machines are gone"), "{told}");
        assert!(told.contains("countersign reload --force"), "{told}");
        assert_eq!(store.current().len(), 4);
        assert_eq!(store.reload(Losses::Any).unwrap().removed.len(), 3);
        assert_eq!(store.current().len(), 1);
    }

    #[test]
    fn half_of_the_machines_may_go_and_so_may_all_of_a_few() {
        for (before, removed, is_mass) in [
            (4, 2, false),
            (4, 3, true),
            (5, 2, false),
            (5, 3, true),
            (3, 3, false),
            (1, 1, false),
            (100_000, 50_000, false),
            (100_000, 50_001, true),
        ] {
            assert_eq!(
                is_mass_deletion(before, removed),
                is_mass,
                "{removed} of {before}"
            );
        }
    }

    #[test]
    fn a_machine_under_another_id_counts_as_gone() {
        let all = |prefix: &str| -> String {
            (0..4)
                .map(|n| entry(&format!("{prefix}{n}"), n + 1))
                .collect()
        };
        let (fixture, store) = Fixture::with(&all("a"));
        fixture.write(&file(&all("b")));
        assert!(store.reload(Losses::Few).is_err());
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
            assert!(store.reload(Losses::Few).is_err(), "{bad:?}");
            assert!(Arc::ptr_eq(&before, &store.current()));
        }
        fs::remove_file(&fixture.path).unwrap();
        assert!(store.reload(Losses::Few).is_err());
        assert!(store.find("a").is_some());
    }

    #[test]
    fn a_good_file_after_a_bad_one_counts() {
        let (fixture, store) = Fixture::with(&entry("a", 1));
        fixture.write("bad");
        store.reload(Losses::Few).unwrap_err();
        fixture.write(&file(&entry("b", 2)));
        store.reload(Losses::Few).unwrap();
        assert!(store.find("b").is_some());
    }

    #[test]
    fn an_empty_list_takes_every_machine_out_because_somebody_wrote_it() {
        let (fixture, store) = Fixture::with(&entry("a", 1));
        fixture.write("machines: []\n");
        assert_eq!(store.reload(Losses::Few).unwrap().removed.len(), 1);
        assert!(store.current().is_empty());
    }

    #[test]
    fn the_same_bytes_are_not_loaded_again() {
        let (_fixture, store) = Fixture::with(&entry("a", 1));
        let before = store.current();
        assert!(store.reload(Losses::Few).unwrap().is_nothing());
        assert!(Arc::ptr_eq(&before, &store.current()));
    }

    #[test]
    fn unchanged_machines_are_shared_with_the_registry_before() {
        let (fixture, store) = Fixture::with(&(entry("a", 1) + &entry("b", 2)));
        let before = store.find("a").unwrap();
        fixture.write(&file(&(entry("a", 1) + &entry("b", 3))));
        store.reload(Losses::Few).unwrap();
        assert!(Arc::ptr_eq(&before, &store.find("a").unwrap()));
    }

    #[test]
    fn who_holds_the_old_registry_keeps_it_whole() {
        let (fixture, store) = Fixture::with(&entry("a", 1));
        let before = store.current();
        fixture.write("machines: []\n");
        store.reload(Losses::Few).unwrap();
        assert!(before.find("a").is_some());
    }
}
