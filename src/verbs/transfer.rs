//! `softlock_transfer`: hand locks over to another owner, all or none.
//!
//! A row goes from one owner to the other in place, so that there is no moment at which anybody, or a
//! waiter, could come between. Units go from a row of the one to a row of the other, both in this
//! transaction: until it ends both count.

use super::hold::{self, Refused};
use super::quota::{Limit, Quota};
use super::seize::MOMENT;
use crate::answer::{self, Prolonged};
use crate::cart::Cart;
use crate::error::Error;
use crate::journal::{self, Change, Event};
use crate::lock::{Caller, Lock, Refusal};
use crate::names::{Owner, Resource, Session};
use crate::pg::{Json, Timestamp, ledger, mutex, subtransaction};
use crate::policy::max_per_owner;
use crate::store::{Patience, Store, Wait, Written};
use crate::text::Text;
use crate::units;

/// Why a lock is not handed over.
pub enum Obstacle {
    /// It is not the caller's.
    Refused(Refused),
    /// The new owner may not have one more.
    Quota(Quota),
    /// The new owner is at it in another transaction.
    Contended { owner: Text, pid: Option<i32> },
}

type Obstacles = Vec<(Resource, Obstacle)>;

/// Hands the caller's live locks over to `to`, with new tokens, or none of them: those of the cart, or all,
/// and of the session where one is given.
pub fn transfer(
    cart: Option<&Cart>,
    session: Option<&Session>,
    caller: &Caller,
    to: &Owner,
) -> Result<Json, Error> {
    let handed = Store::with(Patience::Little, |store| {
        let found = match cart {
            None => hold::all(store, caller, session, Timestamp::now())?,
            Some(cart) => match look_at_all(store, cart, session, caller) {
                Ok(found) => found,
                Err(obstacles) => return Ok(Err(obstacles)),
            },
        };
        store.prepare_to_write()?;
        let hand_over = HandOver {
            store,
            caller,
            to,
            all_or_none: cart.is_some(),
        };
        match subtransaction::attempt(|| hand_over.all(found)) {
            Ok(handed) => Ok(Ok(handed)),
            Err(Ok(obstacles)) => Ok(Err(obstacles)),
            Err(Err(error)) => Err(error),
        }
    })?;
    Ok(match (handed, cart) {
        // They were handed over in byte order.
        (Ok(handed), Some(cart)) => answer::transferred(cart.asked().map(|at| &handed[at])),
        (Ok(handed), None) => answer::transferred(handed.iter()),
        (Err(obstacles), _) => answer::not_transferred(&obstacles, Timestamp::now()),
    })
}

/// The caller's locks of the cart, or each that it does not have.
fn look_at_all(
    store: &Store,
    cart: &Cart,
    session: Option<&Session>,
    caller: &Caller,
) -> Result<Vec<(Resource, Lock)>, Obstacles> {
    let (mut found, mut obstacles) = (Vec::new(), Vec::new());
    for (at, resource) in cart.sorted().iter().enumerate() {
        let looked = hold::look(store, resource, caller, cart.tokens_at(at));
        let looked = looked.and_then(|lock| match hold::is_meant(&lock, caller, session) {
            true => Ok(lock),
            false => Err(Refused {
                refusal: Refusal::NotHeld,
                lock: None,
                t: Timestamp::now(),
            }),
        });
        match looked {
            Ok(lock) => found.push((resource.clone(), lock)),
            Err(refused) => obstacles.push((resource.clone(), Obstacle::Refused(refused))),
        }
    }
    match obstacles.is_empty() {
        true => Ok(found),
        false => Err(obstacles),
    }
}

struct HandOver<'a> {
    store: &'a Store,
    caller: &'a Caller,
    to: &'a Owner,
    /// Named ones must all be there; of all, what has been sold or given back meanwhile is none any more.
    all_or_none: bool,
}

impl HandOver<'_> {
    fn all(
        &self,
        found: Vec<(Resource, Lock)>,
    ) -> Result<Vec<Prolonged>, Result<Obstacles, Error>> {
        let mut handed = Vec::with_capacity(found.len());
        let mut changes: Vec<(Resource, Lock, Lock)> = Vec::with_capacity(found.len());
        for (resource, mut lock) in found {
            lock.metadata = self.store.metadata(&lock);
            let given = changes.iter().map(|(resource, ..)| resource);
            match self.one(&resource, lock, given) {
                Ok(Ok((mut before, mut after))) => {
                    handed.push(Prolonged {
                        resource: resource.clone(),
                        token: after.token,
                        expires_at: after.expires_at,
                        capped: false,
                    });
                    // It can be large, and is not what the journal tells of.
                    (before.metadata, after.metadata) = (None, None);
                    changes.push((resource, before, after));
                }
                Ok(Err(Obstacle::Refused(_))) if !self.all_or_none => (),
                Ok(Err(obstacle)) => return Err(Ok(vec![(resource, obstacle)])),
                Err(error) => return Err(Err(error)),
            }
        }
        for (resource, before, after) in &changes {
            let change = Change::kept(Event::Moved, resource, before, after);
            journal::note(&change).map_err(Err)?;
        }
        Ok(handed)
    }

    /// Hands one lock over: as it was, and as it is.
    fn one<'a>(
        &self,
        resource: &Resource,
        mut lock: Lock,
        given: impl Iterator<Item = &'a Resource>,
    ) -> Result<Result<(Lock, Lock), Obstacle>, Error> {
        let is_new = *self.to != self.caller.owner;
        let most = max_per_owner(resource)?.filter(|_| is_new);
        let limit = Limit::enter(self.store, self.to, resource, most, given);
        if let Some(quota) = limit.exceeded()? {
            return Ok(Err(Obstacle::Quota(quota)));
        }
        loop {
            let written = match self.store.look(resource).is_shared && is_new {
                false => self.in_place(resource, &lock)?,
                true => match self.units(resource, &lock)? {
                    Ok(written) => written,
                    Err(pid) => {
                        let owner = self.to.as_text().clone();
                        return Ok(Err(Obstacle::Contended { owner, pid }));
                    }
                },
            };
            match written {
                (Written::Done, after) => return Ok(Ok((lock, after))),
                (Written::Busy, _) => drop(self.store.wait(&lock)?),
                (Written::Gone, _) => (),
            }
            hold::look_again(self.store, resource)?;
            match hold::look(self.store, resource, self.caller, &[]) {
                Ok(seen) => lock = seen,
                Err(refused) => return Ok(Err(Obstacle::Refused(refused))),
            }
        }
    }

    fn in_place(&self, resource: &Resource, lock: &Lock) -> Result<(Written, Lock), Error> {
        let after = self.handed(lock, self.store.draw(lock.version)?);
        Ok((self.store.update(resource, lock, &after)?, after))
    }

    /// The lock as the new owner's.
    fn handed(&self, lock: &Lock, version: i64) -> Lock {
        Lock {
            owner: self.to.as_text().clone(),
            token: version,
            version,
            place: None,
            ..lock.clone()
        }
    }

    /// Hands units over: into the new owner's lock, if it has one, or into a free slot of its own.
    fn units(
        &self,
        resource: &Resource,
        lock: &Lock,
    ) -> Result<Result<(Written, Lock), Option<i32>>, Error> {
        let to = Caller {
            owner: self.to.clone(),
            role: self.caller.role,
        };
        let slots = to.slots();
        let _inside = mutex::enter_holds(resource.as_bytes(), slots);
        self.store.look_anew();
        let holds = self.store.holds_of(resource, slots);
        if let Some(taker) = units::taker_of(&holds, &to.owner) {
            return Ok(Err(taker.pid));
        }
        let mut promise = None;
        while ledger::is_there() && promise.is_none() {
            promise = ledger::promise_moved(resource.as_bytes(), lock.units.into());
            if promise.is_none() {
                std::thread::sleep(MOMENT);
            }
        }
        // Its old place first: where it is not as it was seen, nothing else is written.
        let deleted = self.store.delete(resource, lock, Wait::No)?;
        if deleted != Written::Done {
            settle(promise, false);
            return Ok(Ok((deleted, lock.clone())));
        }
        let t = Timestamp::now();
        if !lock.is_live(t) {
            // Others may have its units already.
            settle(promise, false);
            return Ok(Ok((Written::Gone, lock.clone())));
        }
        let version = self.store.draw(units::newest(&holds).max(lock.version))?;
        let mut after = self.handed(lock, version);
        let written = match units::own(&holds, |own| to.holds(own), t) {
            Some(own) => {
                after = Lock {
                    units: own.units.saturating_add(lock.units),
                    expires_at: own.expires_at.max(lock.expires_at),
                    acquired_at: own.acquired_at,
                    slot: own.slot,
                    ..after
                };
                self.store.update(resource, own, &after)?
            }
            None => {
                let Some(slot) = slots.free(&holds, t) else {
                    settle(promise, false);
                    return Ok(Err(None));
                };
                after.slot = slot;
                let lapsed = units::lapsed_in(&holds, slot);
                self.store.grant(resource, lapsed, &after)?
            }
        };
        settle(promise, written == Written::Done);
        Ok(match written {
            Written::Done => Ok((written, after)),
            // What has been deleted comes back with the rest.
            _ => Err(None),
        })
    }
}

fn settle(promise: Option<ledger::Promise>, is_written: bool) {
    if let Some(promise) = promise {
        promise.settle(is_written);
    }
}
