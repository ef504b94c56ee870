//! Taking units of a resource, of which others may have some at the same time.
//!
//! Each holder has a row of its own, in one of the slots of its owner's name. Who takes more units enters a
//! mutex of the holder's, not the resource's, so that takers do not wait for each other; what keeps the sum
//! within the capacity is the ledger's promise, which is given before the row is written and stands until
//! it is seen. Where the ledger has none to give, all holders are looked at: that refuses, or counts anew.
//! Without shared memory there is no ledger; then the resource's mutex is entered, and all are looked at.

use super::conflict::Conflict;
use super::quota::Limit;
use super::seize::{MOMENT, Seizure, TRIES, Taken};
use crate::ask::Ask;
use crate::error::Error;
use crate::lock::Lock;
use crate::pg::{self, Timestamp, ledger, mutex};
use crate::store::Written;
use crate::units::{self, Hold, Slots, weigh};

/// Units to be taken of one resource.
pub struct Share<'a> {
    seizure: &'a Seizure<'a>,
    ask: &'a Ask<'a>,
}

impl<'a> Share<'a> {
    pub fn new(seizure: &'a Seizure<'a>, ask: &'a Ask<'a>) -> Self {
        Share { seizure, ask }
    }

    fn is_own(&self, lock: &Lock) -> bool {
        self.seizure.claim.caller.holds(lock)
    }

    /// What stands against it, as it is seen now, without writing anything.
    pub fn plan(&self) -> Result<(), Conflict> {
        let (ask, store) = (self.ask, self.seizure.store);
        let resource = ask.resource.as_bytes();
        if ledger::would_fit(resource, ask.units.into(), ask.capacity) {
            return self.seizure.let_waiters_go_first(ask.resource);
        }
        let (holds, t) = (store.holds(ask.resource, Slots::ALL), Timestamp::now());
        let own = units::own(&holds, |lock| self.is_own(lock), t);
        if own.is_some_and(|own| own.units >= ask.units) {
            return Ok(());
        }
        self.weigh(&holds, t)?;
        match own {
            Some(_) => Ok(()),
            None => self.seizure.let_waiters_go_first(ask.resource),
        }
    }

    /// Whether so many units fit beside the others'.
    fn weigh(&self, holds: &[Hold], t: Timestamp) -> Result<(), Conflict> {
        weigh(holds, self.ask, |lock| self.is_own(lock), t).map_err(|mut shortage| {
            // As a person needs to see the only one who stands in the way.
            if let Some(holder) = &mut shortage.holder {
                holder.metadata = self.seizure.store.metadata(holder);
            }
            match shortage.holder.take() {
                Some(holder) if self.ask.is_exclusive() => Conflict::Held(holder),
                holder => {
                    shortage.holder = holder;
                    Conflict::Short(shortage)
                }
            }
        })
    }

    /// Takes the units, or changes the holder's lock to them. `limit` has been entered.
    pub fn take(&self, limit: &Limit) -> Result<Result<Taken, Conflict>, Error> {
        let (ask, store, seizure) = (self.ask, self.seizure.store, self.seizure);
        let caller = &seizure.claim.caller;
        let slots = caller.slots();
        for _ in 0..TRIES {
            let _inside = mutex::enter_holds(ask.resource.as_bytes(), slots);
            store.look_anew();
            let holds = store.holds_of(ask.resource, slots);
            let t = Timestamp::now();
            if let Some(taker) = units::taker_of(&holds, &caller.owner) {
                return Ok(Err(Conflict::of(Some(taker.clone()))));
            }
            let own = units::own(&holds, |lock| self.is_own(lock), t);
            let more = ask.units - own.map_or(0, |own| own.units);
            let decision = seizure.decide(own, t);
            if own.is_none() {
                if let Some(quota) = limit.exceeded()? {
                    return Ok(Err(Conflict::Quota(quota)));
                }
                if let Err(conflict) = seizure.let_waiters_go_first(ask.resource) {
                    return Ok(Err(conflict));
                }
            }
            let promise = match more > 0 {
                true => match self.promise(more)? {
                    Ok(promise) => promise,
                    Err(conflict) => return Ok(Err(conflict)),
                },
                false => None,
            };
            let (seen, slot) = match (own, slots.free(&holds, t)) {
                (Some(own), _) => (Some(own), own.slot),
                (None, Some(slot)) => (units::lapsed_in(&holds, slot), slot),
                (None, None) => return Ok(Err(Conflict::of(None))),
            };
            let newest = units::newest(&holds);
            let (written, taken) = seizure.write_in(ask, seen, newest, slot, decision)?;
            if let Some(promise) = promise {
                promise.settle(written == Written::Done);
            }
            if written == Written::Done {
                return Ok(Ok(taken));
            }
            seizure.look_again(ask.resource)?;
        }
        Ok(Err(Conflict::of(None)))
    }

    /// Has the ledger promise so many more units; `None` inside where there is no ledger, and all holders
    /// were looked at.
    fn promise(&self, more: i32) -> Result<Result<Option<ledger::Promise>, Conflict>, Error> {
        let (ask, store) = (self.ask, self.seizure.store);
        let resource = ask.resource.as_bytes();
        for _ in 0..TRIES {
            if let Some(promise) = ledger::promise(resource, more.into(), ask.capacity) {
                return Ok(Ok(Some(promise)));
            }
            let count = ledger::begin_count(resource);
            store.look_anew();
            let t = Timestamp::now();
            let holds = store.holds(ask.resource, Slots::ALL);
            let fits = self.weigh(&holds, t);
            match (count, ledger::is_there()) {
                (Some(count), _) => {
                    let own = units::most(&holds, t);
                    // What this transaction has given back, nobody else may get before it has committed.
                    let most = match pg::has_written() {
                        true => units::most(&store.holds_to_others(ask.resource), t),
                        false => own,
                    };
                    count.finish(most, most - own, t);
                }
                (None, false) => return Ok(fits.map(|()| None)),
                // Every account of the stripe is being used.
                (None, true) => std::thread::sleep(MOMENT),
            }
            if let Err(conflict) = fits {
                return Ok(Err(conflict));
            }
            pgrx::check_for_interrupts!();
        }
        Ok(Err(Conflict::of(None)))
    }
}
