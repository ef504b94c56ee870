//! `softlock_consume`: the end of the sale.

use super::hold::{self, Refused};
use crate::answer;
use crate::cart::Cart;
use crate::error::{Error, Failure};
use crate::journal::{self, Change, Event};
use crate::lock::{Caller, Lock};
use crate::pg::{self, Json, Timestamp};
use crate::store::{Patience, Store, Wait, Written};

/// Ends the caller's holds on every resource of the cart, in the transaction that sells, or raises
/// an error that names each resource that is not held and why.
pub fn consume(cart: &Cart, caller: &Caller) -> Result<Json, Error> {
    let sale = Sale { cart, caller };
    Store::with(Patience::Little, |store| {
        // Fail before waiting for anybody, where it is to fail.
        let mut locks = sale.look(store)?;
        for (at, seen) in locks.iter_mut().enumerate() {
            let resource = &cart.sorted()[at];
            while store.delete(resource, seen, Wait::Yes)? != Written::Done {
                hold::look_again(store, resource)?;
                // Somebody has changed it, and perhaps others, too, which then have to be named as well.
                // What this sale has deleted already is still to be seen, as it is the same command.
                *seen = sale.look(store)?.swap_remove(at);
            }
        }
        // Nobody else can write the rows any more: this verdict stands.
        let t = Timestamp::now();
        match locks.iter().all(|lock| lock.is_live(t)) {
            true => {
                for (resource, lock) in cart.sorted().iter().zip(&locks) {
                    journal::note(&Change::end(Event::Consumed, resource, lock))?;
                }
                Ok(answer::consumed(cart.sorted().len()))
            }
            false => Err(sale.lapsed(locks, t)),
        }
    })
}

struct Sale<'a> {
    cart: &'a Cart,
    caller: &'a Caller,
}

impl Sale<'_> {
    /// The locks that are to be ended, or why they can't be.
    fn look(&self, store: &Store) -> Result<Vec<Lock>, Error> {
        let sorted = self.cart.sorted().iter();
        let looks = sorted.map(|resource| hold::seen(store, resource, self.caller));
        self.judge(looks.collect(), Timestamp::now())
    }

    fn lapsed(&self, locks: Vec<Lock>, t: Timestamp) -> Error {
        self.judge(locks.into_iter().map(Some).collect(), t)
            .expect_err("one of them has lapsed")
    }

    fn judge(&self, locks: Vec<Option<Lock>>, t: Timestamp) -> Result<Vec<Lock>, Error> {
        let mut failures = Vec::new();
        let mut held = Vec::with_capacity(locks.len());
        for (at, lock) in locks.into_iter().enumerate() {
            match hold::check(lock, self.caller, self.cart.tokens_at(at), t) {
                Ok(lock) => held.push(lock),
                Err(refused) => failures.push(self.failure(at, &refused)),
            }
        }
        match failures.is_empty() {
            true => Ok(held),
            false => Err(self.error(failures)),
        }
    }

    fn failure(&self, at: usize, refused: &Refused) -> Failure {
        let holder = refused.holder();
        Failure {
            resource: self.cart.sorted()[at].as_text().clone(),
            reason: refused.refusal.outcome(),
            holder: holder.map(|lock| {
                let role = pg::role_name(lock.role);
                (lock.owner.clone(), role, lock.expires_at)
            }),
        }
    }

    fn error(&self, failures: Vec<Failure>) -> Error {
        journal::refused(journal::Refusal::ConsumeFailure);
        Error::NotHeld {
            owner: self.caller.owner.as_text().clone(),
            failures,
        }
    }
}
