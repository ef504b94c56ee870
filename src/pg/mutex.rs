//! The mutex of a resource: who would write where nothing live is to be seen decides under it.
//!
//! It is held for one decision and one row, never until the transaction ends. Nobody has two of a kind,
//! and those of different kinds are entered in this order, so that there is no deadlock: who wants any of
//! several, an owner's locks of a kind, an owner's holds on a resource, the resource. Preloaded, it is one of
//! a fixed number of the server's lightweight locks; else a heavyweight lock in softlock's own part of the
//! advisory locks' space.
//!
//! Each mutex counts what has been written under it. Who has looked before entering, and finds the count
//! as it was before the look, need not look again: a row written meanwhile, committed or not, would have
//! been counted before the mutex was given back.

use std::sync::atomic::Ordering;

use pgrx::pg_sys;

use super::heavy::{self, Space};
use super::ledger;
use super::shared::{self, Lock, Stripe};
use crate::units::Slots;

/// Taken before a look, so that entering can tell whether the look still holds.
#[derive(Clone, Copy)]
pub struct Ticket {
    hash: u64,
    /// The stripe's count; `None` where there is no shared memory.
    writes: Option<u64>,
}

/// A ticket for a look at `resource` that is yet to come.
pub fn ticket(resource: &[u8]) -> Ticket {
    let hash = heavy::hash(resource);
    Ticket {
        hash,
        writes: stripe(hash).map(|stripe| stripe.writes.load(Ordering::Acquire)),
    }
}

fn stripe(hash: u64) -> Option<&'static Stripe> {
    shared::memory().map(|memory| &memory.stripes[shared::stripe_of(hash)])
}

/// Being inside. Given back when dropped; after an ERROR by the abort of the (sub)transaction.
pub struct Inside {
    hash: u64,
    /// Whether nothing has been written under the mutex since the ticket was taken.
    pub unchanged: bool,
    /// Units of the resource have been promised to somebody, and may not be in the table yet.
    pub is_ahead: bool,
}

impl Ticket {
    /// Waits for whoever is inside, which is the time of one decision.
    pub fn enter(self) -> Inside {
        lock(self.hash);
        let now = stripe(self.hash).map(|stripe| stripe.writes.load(Ordering::Acquire));
        Inside {
            hash: self.hash,
            unchanged: now.is_some() && now == self.writes,
            is_ahead: ledger::is_ahead(self.hash),
        }
    }
}

impl Inside {
    /// To be said when a row has been written, index entries included, before the mutex is given back.
    pub fn has_written(&self, resource: &[u8], units: i32) {
        ledger::note_grant(resource, units);
        if let Some(stripe) = stripe(self.hash) {
            stripe.writes.fetch_add(1, Ordering::Release);
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // While an ERROR unwinds, the server's abort gives the lock back, and has perhaps done so.
        if std::thread::panicking() {
            return;
        }
        unlock(self.hash);
    }
}

/// The mutexes besides the resources' own.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Of the holds of an owner on a resource of which there are units.
    Holder,
    /// Of an owner's locks of a kind, where there is a limit to them.
    Owner,
    /// Of those who want any of several resources, and have been in each other's way.
    Any,
}

/// Being inside one of them. Given back as `Inside` is.
pub struct InsideOther(Kind, u64);

/// Waits for whoever is inside, which is the time of one decision.
pub fn enter(kind: Kind, hash: u64) -> InsideOther {
    take(kind.lock(hash), kind.space(), hash);
    InsideOther(kind, hash)
}

/// Being alone with an owner's holds on a resource of which there are units; without a ledger, with the whole
/// resource.
pub struct InsideHolds {
    _holds: Option<InsideOther>,
    _resource: Option<Inside>,
}

/// Waits for whoever decides about the holds of owners that have these slots.
pub fn enter_holds(resource: &[u8], slots: Slots) -> InsideHolds {
    let is_counted = ledger::is_there();
    let name = || heavy::hash(resource).wrapping_add(slots.first as u64);
    InsideHolds {
        _holds: is_counted.then(|| enter(Kind::Holder, name())),
        _resource: (!is_counted).then(|| ticket(resource).enter()),
    }
}

impl Drop for InsideOther {
    fn drop(&mut self) {
        let InsideOther(kind, hash) = *self;
        if !std::thread::panicking() {
            give_back(kind.lock(hash), kind.space(), hash);
        }
    }
}

impl Kind {
    fn lock(self, hash: u64) -> Lock {
        match self {
            Kind::Holder => Lock::Holder(hash),
            Kind::Owner => Lock::Owner(hash),
            Kind::Any => Lock::Any,
        }
    }

    fn space(self) -> Space {
        match self {
            Kind::Holder => Space::Holder,
            Kind::Owner => Space::Owner,
            Kind::Any => Space::Any,
        }
    }
}

fn lock(hash: u64) {
    if cfg!(feature = "broken_no_mutex") {
        return;
    }
    take(Lock::Stripe(shared::stripe_of(hash)), Space::Mutex, hash);
    #[cfg(feature = "broken_early_unlock")]
    broken::INSIDE.set(Some(hash));
}

fn unlock(hash: u64) {
    #[cfg(feature = "broken_early_unlock")]
    if broken::INSIDE.take().is_none() {
        return;
    }
    if cfg!(feature = "broken_no_mutex") {
        return;
    }
    give_back(Lock::Stripe(shared::stripe_of(hash)), Space::Mutex, hash);
}

fn take(lock: Lock, space: Space, hash: u64) {
    match shared::lock(lock) {
        // SAFETY: a lock of softlock's tranche, given back by this process.
        Some(lock) => unsafe {
            pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        },
        None => heavy::lock_whatever_it_takes(space, hash),
    }
}

fn give_back(lock: Lock, space: Space, hash: u64) {
    match shared::lock(lock) {
        // SAFETY: taken by `take`.
        Some(lock) => unsafe { pg_sys::LWLockRelease(lock) },
        None => heavy::unlock(space, hash),
    }
}

/// Wrong on purpose: `tests/soak broken` has to find out.
#[cfg(feature = "broken_early_unlock")]
pub mod broken {
    use std::cell::Cell;

    thread_local! {
        pub static INSIDE: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// Gives the mutex back when the row is in the table and not yet in the indexes.
    pub fn before_index() {
        if let Some(hash) = INSIDE.get() {
            super::unlock(hash);
        }
    }
}
