//! What is counted of each database, in shared memory: a tally per database, which is found once per
//! session and from then on counted in without a lock.
//!
//! Tallies are given out for as long as the server runs. When all are taken, those of databases that have
//! been dropped are given out anew; where there are none either, a database is counted in one that nobody
//! is shown.

use std::cell::Cell;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU32, AtomicU64};

use pgrx::pg_sys;

use super::Timestamp;
use super::shared::{self, DATABASES, Memory};
use super::shared_text::SharedText;
use crate::statistics::COUNTERS;

/// All tallies, and what is known of the launcher. All zeroes is what every field starts with.
pub struct Tallies {
    tallies: [Tally; DATABASES],
    /// Of databases for which there was none.
    rest: Tally,
    launcher: AtomicI32,
    launcher_began: AtomicI64,
    short_of_slots: AtomicBool,
    next_sweep: AtomicI64,
}

/// What is counted of one database.
pub struct Tally {
    /// 0 where there is room.
    database: AtomicU32,
    since: AtomicI64,
    counters: [AtomicU64; COUNTERS],
    sweeps: AtomicU64,
    swept: AtomicU64,
    /// In microseconds.
    sweep_time: AtomicU64,
    last_sweep: AtomicI64,
    last_swept: AtomicU64,
    failed: AtomicU64,
    last_failed: AtomicI64,
    /// Written and read under the lock.
    last_error: SharedText,
}

/// A tally as it is now.
pub struct Row {
    pub database: pg_sys::Oid,
    /// When it was begun.
    pub since: Timestamp,
    pub counters: [u64; COUNTERS],
    pub sweeps: Sweeps,
}

/// What is known of the sweeps of a database.
pub struct Sweeps {
    pub count: u64,
    pub swept: u64,
    pub time_ms: f64,
    pub last: Option<Timestamp>,
    /// How many locks the last one deleted.
    pub last_swept: Option<u64>,
    pub failed: u64,
    pub last_failed: Option<Timestamp>,
    pub last_error: Option<String>,
    /// When the launcher begins with the next ones; `None` while sweeping is turned off.
    pub next: Option<Timestamp>,
}

thread_local! {
    static MINE: Cell<Option<&'static Tally>> = const { Cell::new(None) };
}

/// The tally of this session's database; `None` where the library is not preloaded.
pub fn mine() -> Option<&'static Tally> {
    MINE.get().or_else(|| {
        // SAFETY: set in every backend that runs SQL, for good.
        let found = of(unsafe { pg_sys::MyDatabaseId });
        MINE.set(found);
        found
    })
}

/// The tally of a database; `None` where the library is not preloaded.
pub fn of(database: pg_sys::Oid) -> Option<&'static Tally> {
    Some(tallies()?.find_or_begin(database.into()))
}

/// Every tally that has been begun.
pub fn rows() -> Option<Vec<Row>> {
    let of = |tally: &Tally| (tally.database.load(Acquire) != 0).then(|| tally.read_locked());
    let all = || tallies().map(|all| all.tallies.iter().filter_map(of).collect());
    locked(pg_sys::LWLockMode::LW_SHARED, all)
}

fn tallies() -> Option<&'static Tallies> {
    shared::memory().map(|Memory { tallies, .. }| tallies)
}

impl Tallies {
    fn find_or_begin(&'static self, database: u32) -> &'static Tally {
        if let Some(found) = self.find(database) {
            return found;
        }
        let dropped = match self.find(0) {
            Some(_) => Vec::new(),
            None => self.dropped(),
        };
        locked(pg_sys::LWLockMode::LW_EXCLUSIVE, || {
            let found = self.find(database);
            found.unwrap_or_else(|| {
                let free = dropped.into_iter().find_map(|gone| self.find(gone));
                match self.find(0).or(free) {
                    Some(free) => free.begin(database),
                    None => &self.rest,
                }
            })
        })
    }

    fn find(&self, database: u32) -> Option<&Tally> {
        let mut tallies = self.tallies.iter();
        tallies.find(|tally| tally.database.load(Acquire) == database)
    }

    /// The databases that have a tally and are no more. None is found outside a transaction.
    fn dropped(&self) -> Vec<u32> {
        let is_dropped = |database: &u32| {
            let cache = pg_sys::SysCacheIdentifier::DATABASEOID as i32;
            let (oid, none) = (pg_sys::Oid::from(*database).into(), pg_sys::Datum::from(0));
            // SAFETY: a catalog look-up inside a transaction.
            unsafe { !pg_sys::SearchSysCacheExists(cache, oid, none, none, none) }
        };
        // SAFETY: reads backend-local state.
        if !unsafe { pg_sys::IsTransactionState() } {
            return Vec::new();
        }
        let databases = self
            .tallies
            .iter()
            .map(|tally| tally.database.load(Acquire));
        databases.filter(is_dropped).collect()
    }
}

impl Tally {
    pub fn count(&self, counter: usize, amount: u64) {
        self.counters[counter].fetch_add(amount, Relaxed);
    }

    pub fn swept(&self, locks: u64, micros: u64) {
        self.swept.fetch_add(locks, Relaxed);
        self.sweep_time.fetch_add(micros, Relaxed);
    }

    pub fn sweep_ended(&self, locks: u64, now: Timestamp) {
        self.sweeps.fetch_add(1, Relaxed);
        self.last_swept.store(locks, Relaxed);
        self.last_sweep.store(now.raw(), Relaxed);
    }

    pub fn sweep_failed(&self, message: &str, now: Timestamp) {
        locked(pg_sys::LWLockMode::LW_EXCLUSIVE, || {
            self.failed.fetch_add(1, Relaxed);
            self.last_failed.store(now.raw(), Relaxed);
            self.last_error.write(message);
        });
    }

    /// Begins anew.
    pub fn reset(&self) {
        locked(pg_sys::LWLockMode::LW_EXCLUSIVE, || self.clear());
    }

    pub fn read(&self) -> Row {
        locked(pg_sys::LWLockMode::LW_SHARED, || self.read_locked())
    }

    /// Begins with another database. Under the lock; nobody counts here who has not found it before.
    fn begin(&self, database: u32) -> &Self {
        self.database.store(0, Relaxed);
        self.clear();
        self.database.store(database, Release);
        self
    }

    fn clear(&self) {
        for counter in &self.counters {
            counter.store(0, Relaxed);
        }
        let counts = [&self.sweeps, &self.swept, &self.sweep_time];
        for count in counts.into_iter().chain([&self.last_swept, &self.failed]) {
            count.store(0, Relaxed);
        }
        self.last_sweep.store(0, Relaxed);
        self.last_failed.store(0, Relaxed);
        self.last_error.write("");
        self.since.store(Timestamp::now().raw(), Relaxed);
    }

    fn read_locked(&self) -> Row {
        let (last, last_failed) = (time(&self.last_sweep), time(&self.last_failed));
        let next = tallies().and_then(|all| time(&all.next_sweep));
        Row {
            database: self.database.load(Relaxed).into(),
            since: Timestamp::from_raw(self.since.load(Relaxed)),
            counters: std::array::from_fn(|at| self.counters[at].load(Relaxed)),
            sweeps: Sweeps {
                count: self.sweeps.load(Relaxed),
                swept: self.swept.load(Relaxed),
                time_ms: self.sweep_time.load(Relaxed) as f64 / 1000.0,
                last,
                last_swept: last.map(|_| self.last_swept.load(Relaxed)),
                failed: self.failed.load(Relaxed),
                last_failed,
                last_error: last_failed.map(|_| self.last_error.read()),
                next,
            },
        }
    }
}

/// A time in shared memory, where 0 is none.
fn time(raw: &AtomicI64) -> Option<Timestamp> {
    Some(raw.load(Relaxed))
        .filter(|&raw| raw != 0)
        .map(Timestamp::from_raw)
}

/// Runs `work`, which raises no error, with the tallies locked.
fn locked<R>(mode: pg_sys::LWLockMode::Type, work: impl FnOnce() -> R) -> R {
    let Some(lock) = shared::lock(shared::Lock::Tallies) else {
        return work();
    };
    // SAFETY: a lock of softlock's tranche, given back below.
    unsafe {
        pg_sys::LWLockAcquire(lock, mode);
        let result = work();
        pg_sys::LWLockRelease(lock);
        result
    }
}

/// To be told by the launcher of its start.
pub fn note_launcher() {
    if let Some(tallies) = tallies() {
        // SAFETY: this process's id.
        tallies
            .launcher
            .store(unsafe { pg_sys::MyProcPid }, Relaxed);
        tallies.short_of_slots.store(false, Relaxed);
        tallies
            .launcher_began
            .store(Timestamp::now().raw(), Relaxed);
    }
}

/// To be told by the launcher when it begins with the next sweeps.
pub fn note_next_sweep(next: Option<Timestamp>) {
    if let Some(tallies) = tallies() {
        let raw = next.map_or(0, Timestamp::raw);
        tallies.next_sweep.store(raw, Relaxed);
    }
}

/// To be told by the launcher whether it has no worker slot to sweep with.
pub fn note_shortage(is_short: bool) {
    if let Some(tallies) = tallies() {
        tallies.short_of_slots.store(is_short, Relaxed);
    }
}

/// When the launcher was started last; `None` where it never was.
pub fn launcher_began() -> Option<Timestamp> {
    tallies().and_then(|tallies| time(&tallies.launcher_began))
}

pub fn launcher_is_short_of_slots() -> bool {
    tallies().is_some_and(|tallies| tallies.short_of_slots.load(Relaxed))
}

/// Whether the launcher's process is there.
pub fn is_launcher_alive() -> bool {
    tallies().is_some_and(|tallies| {
        super::workers::kind_of(tallies.launcher.load(Relaxed)).as_deref()
            == Some(c"softlock launcher")
    })
}

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use pgrx::pg_sys;
    use pgrx::prelude::*;

    use super::*;

    fn of_no_database() -> &'static Tallies {
        let layout = std::alloc::Layout::new::<Tallies>();
        // SAFETY: all zeroes is what it starts with; never freed.
        unsafe { &*std::alloc::alloc_zeroed(layout).cast::<Tallies>() }
    }

    #[pg_test]
    fn a_database_has_one_tally_and_keeps_it() {
        let tallies = of_no_database();
        let shop = tallies.find_or_begin(7);
        shop.count(0, 3);
        assert!(!std::ptr::eq(shop, tallies.find_or_begin(8)));
        assert!(std::ptr::eq(shop, tallies.find_or_begin(7)));
        assert_eq!(shop.read().counters[0], 3);
    }

    #[pg_test]
    fn the_tally_of_a_dropped_database_is_given_out_anew_when_all_are_taken() {
        let tallies = of_no_database();
        // SAFETY: this session's database, which is there.
        let here = u32::from(unsafe { pg_sys::MyDatabaseId });
        for tally in &tallies.tallies {
            tally.begin(here);
        }
        // All are of databases that are there.
        let rest = tallies.find_or_begin(here + 1);
        assert!(std::ptr::eq(rest, &tallies.rest));
        let dropped = &tallies.tallies[DATABASES / 2];
        dropped.begin(u32::MAX);
        dropped.count(0, 3);
        let another = tallies.find_or_begin(here + 1);
        assert!(std::ptr::eq(another, dropped));
        assert_eq!(another.read().counters[0], 0);
        assert!(tallies.find(u32::MAX).is_none());
    }
}
