//! Standing in line for a resource, first come, first served.
//!
//! Who waits stands in line for a heavyweight lock of the resource's own, which only waiters take. The
//! first one has it, and sleeps until the resource may have become free: preloaded, until whoever wrote it
//! ends its transaction and wakes it; else for moments. Who does not wait looks whether somebody stands in
//! line, so that no newcomer overtakes; the holder itself is not hindered, since renewing and releasing
//! don't look.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use pgrx::pg_sys::{self, SubTransactionId, SubXactEvent, XactEvent};

use super::heavy::{self, Space};
use super::nap::nap;
use super::savepoints::watch_ends;
use super::shared::{self, Memory, Stripe};

/// How often the first in line looks where nobody can wake it.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// How often it looks where it is woken: what ends in another session than it began in, a prepared
/// transaction, wakes nobody.
const LOOK_ANYWAY: Duration = Duration::from_secs(1);
/// A transaction that has written more than so many resources wakes everybody at its end.
const MOST: usize = 4096;

thread_local! {
    static WRITTEN: RefCell<Written> = const { RefCell::new(Written { hashes: Vec::new(), are_many: false }) };
    static IS_REGISTERED: Cell<bool> = const { Cell::new(false) };
}

/// What this transaction has written.
struct Written {
    /// The resources, by hash.
    hashes: Vec<u64>,
    /// There are others besides, so that everybody is to be woken.
    are_many: bool,
}

/// A place in the line; given up when dropped.
pub struct Place {
    hash: u64,
    is_first: bool,
    /// Where this session can be woken.
    slot: Option<usize>,
}

impl Place {
    /// Stands in line for `resource` until this is the first one, or until `deadline`.
    pub fn take(resource: &[u8], deadline: Instant) -> Place {
        let hash = heavy::hash(resource);
        let mut place = Place {
            hash,
            is_first: false,
            slot: shared::memory().and_then(|memory| enter(memory, hash)),
        };
        place.is_first = heavy::lock_until(Space::Queue, hash, deadline);
        place
    }

    pub fn is_first(&self) -> bool {
        self.is_first
    }

    /// Sleeps until the resource may have become free, for at most `time`. Can be cancelled.
    pub fn sleep(&self, time: Duration) {
        nap(time.min(match self.slot {
            Some(_) => LOOK_ANYWAY,
            None => LOOK_EVERY,
        }));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(memory) = shared::memory() {
            leave(memory, self.hash, self.slot);
        }
        // While an ERROR unwinds, the server's abort gives the lock back.
        if self.is_first && !std::thread::panicking() {
            heavy::unlock(Space::Queue, self.hash);
        }
    }
}

/// Whether somebody else stands in line for `resource`.
pub fn others_wait(resource: &[u8]) -> bool {
    let hash = heavy::hash(resource);
    if shared::memory().is_some_and(|memory| stripe(memory, hash).waiters.load(SeqCst) == 0) {
        return false;
    }
    let is_free = heavy::try_lock(Space::Queue, hash);
    if is_free {
        heavy::unlock(Space::Queue, hash);
    }
    !is_free
}

/// The process that stands first in line for `resource`, if it is known.
pub fn first_in_line(resource: &[u8]) -> Option<i32> {
    let hash = heavy::hash(resource);
    // SAFETY: a process's entry in the server's array, which stays where it is.
    shared::memory()?
        .sleepers
        .iter()
        .find_map(|sleeper| unsafe {
            let process = sleeper.process.load(SeqCst);
            let waits = !process.is_null() && sleeper.hash.load(SeqCst) == hash;
            waits.then(|| (*process).pid)
        })
}

/// To be told of each write: when this transaction ends, or goes back to a savepoint, who waits for the
/// resource is woken.
pub fn note_write(resource: &[u8]) {
    if shared::memory().is_none() {
        return;
    }
    register();
    WRITTEN.with_borrow_mut(|written| match written.hashes.len() < MOST {
        true => written.hashes.push(heavy::hash(resource)),
        false => written.are_many = true,
    });
}

/// The same for all that one will write: everybody is woken.
pub fn note_writes() {
    if shared::memory().is_none() {
        return;
    }
    register();
    WRITTEN.with_borrow_mut(|written| written.are_many = true);
}

fn stripe(memory: &'static Memory, hash: u64) -> &'static Stripe {
    &memory.stripes[shared::stripe_of(hash)]
}

/// Finds a slot to be woken by; none is left where very many wait.
fn enter(memory: &'static Memory, hash: u64) -> Option<usize> {
    register();
    // SAFETY: this process's own entry.
    let process = unsafe { pg_sys::MyProc };
    let free = |slot: &usize| {
        let sleeper = &memory.sleepers[*slot];
        let taken = sleeper
            .process
            .compare_exchange(null_mut(), process, SeqCst, SeqCst);
        taken.is_ok()
    };
    let slot = (0..memory.sleepers.len()).find(free);
    if let Some(slot) = slot {
        memory.sleepers[slot].hash.store(hash, SeqCst);
    }
    // Counted also without one, so that nobody overtakes.
    stripe(memory, hash).waiters.fetch_add(1, SeqCst);
    slot
}

fn leave(memory: &'static Memory, hash: u64, slot: Option<usize>) {
    if let Some(slot) = slot {
        memory.sleepers[slot].process.store(null_mut(), SeqCst);
    }
    stripe(memory, hash).waiters.fetch_sub(1, SeqCst);
}

fn wake(memory: &'static Memory, written: &Written) {
    let is_meant = |hash: u64| written.are_many || written.hashes.contains(&hash);
    let is_awaited = |&hash: &u64| stripe(memory, hash).waiters.load(SeqCst) > 0;
    if !written.are_many && !written.hashes.iter().any(is_awaited) {
        return;
    }
    for sleeper in &memory.sleepers {
        let process = sleeper.process.load(SeqCst);
        if !process.is_null() && is_meant(sleeper.hash.load(SeqCst)) {
            // SAFETY: a process's entry in the server's array, which stays where it is; a process that is
            // woken for nothing goes back to sleep.
            unsafe { pg_sys::SetLatch(&raw mut (*process).procLatch) };
        }
    }
}

fn register() {
    if watch_ends(&IS_REGISTERED, at_end, at_savepoints_end) {
        // SAFETY: registered once; it raises no errors.
        unsafe { pg_sys::before_shmem_exit(Some(at_exit), pg_sys::Datum::from(0)) };
    }
}

unsafe extern "C-unwind" fn at_end(event: XactEvent::Type, _: *mut c_void) {
    use XactEvent::{XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PREPARE};
    if let (Some(memory), XACT_EVENT_COMMIT | XACT_EVENT_ABORT | XACT_EVENT_PREPARE) =
        (shared::memory(), event)
    {
        WRITTEN.with_borrow_mut(|written| {
            wake(memory, written);
            written.hashes.clear();
            written.hashes.shrink_to(64);
            written.are_many = false;
        });
    }
}

unsafe extern "C-unwind" fn at_savepoints_end(
    event: SubXactEvent::Type,
    _: SubTransactionId,
    _: SubTransactionId,
    _: *mut c_void,
) {
    if let (Some(memory), SubXactEvent::SUBXACT_EVENT_ABORT_SUB) = (shared::memory(), event) {
        WRITTEN.with_borrow(|written| wake(memory, written));
    }
}

/// A session that is terminated while it waits does not come to drop its place.
unsafe extern "C-unwind" fn at_exit(_: c_int, _: pg_sys::Datum) {
    let Some(memory) = shared::memory() else {
        return;
    };
    for (slot, sleeper) in memory.sleepers.iter().enumerate() {
        // SAFETY: this process's own entry.
        if sleeper.process.load(SeqCst) == unsafe { pg_sys::MyProc } {
            leave(memory, sleeper.hash.load(SeqCst), Some(slot));
        }
    }
}
