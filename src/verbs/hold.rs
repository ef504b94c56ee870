//! Acting on a hold of one's own: renew and release.
//!
//! As in `seize`, it looks before it locks, so that a refused caller leaves nothing. The holder
//! itself may have the key's lock in another connection; then it waits for that transaction, as an
//! UPDATE of the row would.

use crate::answer::Holder;
use crate::error::Error;
use crate::lock::{Caller, Lock, Refusal, verify};
use crate::names::Resource;
use crate::pg::probe::Probe;
use crate::pg::{self, Timestamp, key_lock};
use crate::store;

/// What came of it.
pub enum Kept<T> {
    Done(T),
    Refused(Refused),
}

/// Why the caller does not hold the resource.
pub struct Refused {
    pub refusal: Refusal,
    lock: Option<Lock>,
    t: Timestamp,
}

impl Refused {
    /// The other holder, where there is one to be told of.
    pub fn holder(&self) -> Option<Holder<'_>> {
        let lock = self.lock.as_ref().filter(|_| self.refusal == Refusal::Held);
        lock.map(|lock| Holder::of(lock, self.t))
    }
}

/// Runs `write` at a time when the caller's lock is live and nobody else can decide about it.
/// `write` answers `None` when the row could not be had after all.
pub fn with_live<T>(
    resource: &Resource,
    caller: &Caller,
    token: Option<i64>,
    write: impl Fn(Timestamp) -> Option<T>,
) -> Result<Kept<T>, Error> {
    let look = || {
        let lock = Probe::with(|probe| probe.find(resource.as_str()));
        let t = Timestamp::now();
        match verify(lock.as_ref(), |lock| caller.holds(lock), token, t) {
            Ok(()) => Ok(t),
            Err(refusal) => Err(Kept::Refused(Refused { refusal, lock, t })),
        }
    };
    loop {
        if let Err(refused) = look() {
            return Ok(refused);
        }
        key_lock::lock(resource.as_str());
        let t = match look() {
            Ok(t) => t,
            Err(refused) => {
                key_lock::unlock(resource.as_str());
                return Ok(refused);
            }
        };
        if let Some(done) = write(t) {
            return Ok(Kept::Done(done));
        }
        // The lock lapsed this very moment and a sweep took its row, or somebody has locked the row
        // by hand. Wait for that transaction, without the key's lock, and look again.
        key_lock::unlock(resource.as_str());
        if pg::uses_transaction_snapshot() {
            return Err(Error::Serialization {
                resource: resource.as_str().into(),
            });
        }
        store::lock_row(resource);
    }
}
