//! Acting on holds of one's own: what renew, release, consume and the guard share.
//!
//! They look before they write, so that a refused caller leaves nothing. The row serializes: where
//! another transaction is writing it (the holder's own in another connection, or a sweep that found it
//! lapsed) they wait for that one, as an UPDATE would, and look again.

use super::quota;
use crate::error::Error;
use crate::journal::{self, Change, Event};
use crate::lock::{Caller, Lock, Refusal, verify};
use crate::names::{Resource, Session};
use crate::pg::{self, Timestamp};
use crate::policy::Terms;
use crate::store::{Store, Written};
use crate::units::{self, Slots};

/// Why the caller does not hold a resource.
pub struct Refused {
    pub refusal: Refusal,
    pub lock: Option<Lock>,
    pub t: Timestamp,
}

impl Refused {
    /// The other holder, where there is one to be told of.
    pub fn holder(&self) -> Option<&Lock> {
        self.lock.as_ref().filter(|_| self.refusal == Refusal::Held)
    }
}

/// The caller's live lock on `resource`, as it is now, if it has each of the tokens.
pub fn look(
    store: &Store,
    resource: &Resource,
    caller: &Caller,
    tokens: &[i64],
) -> Result<Lock, Refused> {
    let lock = seen(store, resource, caller);
    check(lock, caller, tokens, Timestamp::now())
}

/// The lock on `resource` that counts for the caller: its own, or else somebody else's.
pub fn seen(store: &Store, resource: &Resource, caller: &Caller) -> Option<Lock> {
    let look = store.look(resource);
    if !look.is_shared {
        return look.lock;
    }
    let t = Timestamp::now();
    let is_own = |lock: &Lock| caller.holds(lock);
    // It has a row of its own, and needs no look at all the others.
    let mut holds = store.holds_of(resource, caller.slots());
    if units::own(&holds, is_own, t).is_none() {
        holds = store.holds(resource, Slots::ALL);
    }
    let locks = holds.into_iter().filter_map(|hold| hold.look.lock);
    // Its own before others', and the live before the lapsed.
    let mut lock = locks.min_by_key(|lock| (!is_own(lock), !lock.is_live(t)))?;
    lock.metadata = store.metadata(&lock);
    Some(lock)
}

/// `lock` itself if it is the caller's and live at `t`, with each of the tokens.
pub fn check(
    lock: Option<Lock>,
    caller: &Caller,
    tokens: &[i64],
    t: Timestamp,
) -> Result<Lock, Refused> {
    let verdict = verify(lock.as_ref(), |lock| caller.holds(lock), tokens, t);
    match (verdict, lock) {
        (Ok(()), Some(lock)) => Ok(lock),
        (verdict, lock) => {
            let refusal = verdict.err().unwrap_or(Refusal::NotHeld);
            Err(Refused { refusal, lock, t })
        }
    }
}

/// Whether a lock is one that a call about the caller's locks, or those of a session, is about.
pub fn is_meant(lock: &Lock, caller: &Caller, session: Option<&Session>) -> bool {
    caller.holds(lock)
        && session.is_none_or(|session| lock.session.as_ref() == Some(session.as_text()))
}

/// The caller's locks that had not lapsed at `since`, or those of one session, without their metadata, which
/// can be large; in byte order, so that two who write the same locks never deadlock.
pub fn all(
    store: &Store,
    caller: &Caller,
    session: Option<&Session>,
    since: Timestamp,
) -> Result<Vec<(Resource, Lock)>, Error> {
    let mut found: Vec<(Resource, Lock)> = Vec::new();
    store.each_of_owner(caller.owner.as_text(), since, |row| {
        let lock = row.read_without_metadata();
        if is_meant(&lock, caller, session) {
            let resource = Resource::from_text(row.resource());
            found.push((resource.expect("it has been taken"), lock));
        }
    })?;
    found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

/// Prolongs a live lock of the caller's, which was seen: as it is then, and whether it lapses sooner than
/// asked. Where somebody else is writing it, it is looked for again, and that look may refuse.
pub fn prolong<E>(
    store: &Store,
    resource: &Resource,
    mut seen: Lock,
    terms: &Terms,
    look: impl Fn() -> Result<Lock, E>,
) -> Result<Result<(Lock, bool), E>, Error> {
    store.prepare_to_write()?;
    loop {
        let version = store.draw(seen.version)?;
        let (lock, capped) = seen.renewed(terms, Timestamp::now(), version);
        let update = || store.update(resource, &seen, &lock);
        match quota::uncounted(&seen, resource, terms.max_per_owner, update)? {
            Written::Done => {
                journal::note(&Change::kept(Event::Renewed, resource, &seen, &lock))?;
                return Ok(Ok((lock, capped)));
            }
            // Wait for whoever is writing it; then it is as it was, or another one.
            Written::Busy => drop(store.wait(&seen)?),
            Written::Gone => (),
        }
        look_again(store, resource)?;
        match look() {
            Ok(lock) => seen = lock,
            Err(refused) => return Ok(Err(refused)),
        }
    }
}

/// Before looking again at a row that was not as it was seen: a transaction that keeps its snapshot would
/// look in vain.
pub fn look_again(store: &Store, resource: &Resource) -> Result<(), Error> {
    if pg::uses_transaction_snapshot() {
        return Err(Error::Serialization {
            resource: resource.as_text().clone(),
        });
    }
    pgrx::check_for_interrupts!();
    store.look_anew();
    Ok(())
}
