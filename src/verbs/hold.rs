//! Acting on holds of one's own: what renew, release and consume share.
//!
//! As in `seize`, they look before they lock, so that a refused caller leaves nothing. The row
//! serializes: where another transaction is writing it (the holder's own in another connection, or
//! a sweep that found it lapsed) they wait for that one, as an UPDATE would, and look again.

use crate::answer::Holder;
use crate::error::Error;
use crate::lock::{Caller, Lock, Refusal, verify};
use crate::names::Resource;
use crate::pg::probe::Probe;
use crate::pg::{self, Timestamp};

/// Why the caller does not hold a resource.
pub struct Refused {
    pub refusal: Refusal,
    pub lock: Option<Lock>,
    pub t: Timestamp,
}

impl Refused {
    /// The other holder, where there is one to be told of.
    pub fn holder(&self) -> Option<Holder<'_>> {
        let lock = self.lock.as_ref().filter(|_| self.refusal == Refusal::Held);
        lock.map(|lock| Holder::of(lock, self.t))
    }
}

/// The caller's live lock on `resource`, as it is now.
pub fn look(
    probe: &Probe,
    resource: &Resource,
    caller: &Caller,
    token: Option<i64>,
) -> Result<Lock, Refused> {
    let lock = probe.find(resource.as_str());
    check(lock, caller, token, Timestamp::now())
}

/// `lock` itself if it is the caller's and live at `t`.
pub fn check(
    lock: Option<Lock>,
    caller: &Caller,
    token: Option<i64>,
    t: Timestamp,
) -> Result<Lock, Refused> {
    let verdict = verify(lock.as_ref(), |lock| caller.holds(lock), token, t);
    match (verdict, lock) {
        (Ok(()), Some(lock)) => Ok(lock),
        (verdict, lock) => {
            let refusal = verdict.err().unwrap_or(Refusal::NotHeld);
            Err(Refused { refusal, lock, t })
        }
    }
}

/// To be asked before looking again at a row that was not as it was seen: a transaction that keeps
/// its snapshot would look in vain.
pub fn may_look_again(resource: &Resource) -> Result<(), Error> {
    if pg::uses_transaction_snapshot() {
        return Err(Error::Serialization {
            resource: resource.as_str().into(),
        });
    }
    Ok(())
}
