//! Taking a set of resources: all of them, or none, without ever waiting for another transaction.
//!
//! It looks before it writes, so that a refused caller touches nothing: no row, no transaction id, no
//! WAL. Who would be granted a resource enters its mutex and looks again, unless nothing has been written
//! under the mutex since; decides at a time read after that; writes the row, and leaves the mutex. From
//! then on the row itself, uncommitted as it is, tells others that somebody is taking it. A live lock of
//! the caller's own needs no mutex: its row serializes. Of what has units: see `share`.
//!
//! A cart goes key by key in byte order, with the mutexes of one key at a time; at the first conflict it
//! undoes what it has written and only looks at the rest, to list it. So nobody waits for more than one
//! decision of somebody else's, nobody can be deadlocked, and of carts that overlap the one that is
//! furthest wins.

use std::time::Duration;

use super::conflict::{Conflict, Conflicts};
use super::quota;
use super::share::Share;
use crate::ask::Ask;
use crate::error::Error;
use crate::journal::{self, Change, Event};
use crate::lock::{Claim, Decision, Lock, Look, decide};
use crate::names::Resource;
use crate::pg::mutex::{self, Ticket};
use crate::pg::{self, Timestamp, queue, subtransaction};
use crate::store::{Patience, Store, Written};

/// A lock as it was written.
#[derive(Debug)]
pub struct Taken {
    pub decision: Decision,
    pub lock: Lock,
    /// It lapses sooner than asked, as nothing is held for longer.
    pub capped: bool,
    /// What it was written over: the lock as it was, or one that had lapsed.
    pub before: Option<Lock>,
}

/// How a call comes to stand in line: those who don't are behind those who do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    AfterWaiters,
    FirstInLine,
}

/// What is to be done about a resource, by what was seen of it.
enum Plan {
    Alone {
        ticket: Ticket,
        look: Look,
        decision: Decision,
    },
    /// More than one can have of it at a time.
    Share,
}

/// So often a row is looked at anew because somebody else has just written it.
pub const TRIES: usize = 1000;
/// How long to wait for promised units to get into the table.
pub const MOMENT: Duration = Duration::from_micros(50);

/// Takes what is asked for the claim: the locks as written, in the order given, or every conflict; then
/// nothing is left behind. The resources must be distinct and in byte order.
pub fn seize(
    asks: &[Ask],
    claim: &Claim,
    turn: Turn,
) -> Result<Result<Vec<Taken>, Conflicts>, Error> {
    let seized = Store::with(Patience::None, |store| {
        Seizure { store, claim, turn }.seize(asks)
    });
    match seized {
        Err(Error::TableLocked) => Ok(Err((0..asks.len())
            .map(|at| (at, Conflict::of(None)))
            .collect())),
        seized => seized,
    }
}

/// One attempt to take resources for a claim.
pub struct Seizure<'a> {
    pub store: &'a Store,
    pub claim: &'a Claim,
    pub turn: Turn,
}

impl Seizure<'_> {
    fn seize(&self, asks: &[Ask]) -> Result<Result<Vec<Taken>, Conflicts>, Error> {
        let mut plans = Vec::with_capacity(asks.len());
        let mut conflicts = Vec::new();
        for (at, plan) in self.plan_all(asks)?.into_iter().enumerate() {
            match plan {
                Ok(plan) => plans.push(plan),
                Err(conflict) => conflicts.push((at, conflict)),
            }
        }
        if !conflicts.is_empty() {
            return Ok(Err(conflicts));
        }
        self.store.prepare_to_write()?;
        let mut taken = Vec::with_capacity(asks.len());
        let mut take_all = || {
            for (at, (ask, plan)) in asks.iter().zip(plans.drain(..)).enumerate() {
                match self.take(ask, plan, &asks[..at], &taken) {
                    Ok(Ok(lock)) => taken.push(lock),
                    Ok(Err(conflict)) => return Err(Ok((at, conflict))),
                    Err(error) => return Err(Err(error)),
                }
            }
            Ok(())
        };
        let done = match asks.len() {
            0 | 1 => take_all(),
            _ => subtransaction::attempt(take_all),
        };
        let first = match done {
            Ok(()) => {
                note(asks, &taken)?;
                return Ok(Ok(taken));
            }
            Err(Err(error)) => return Err(error),
            Err(Ok(first)) => first,
        };
        // What stands against the others now that nothing is written.
        self.store.look_anew();
        let plans = self.plan_all(asks)?.into_iter().enumerate();
        let others = plans.filter(|(at, _)| *at != first.0);
        let mut conflicts: Conflicts = others
            .filter_map(|(at, plan)| Some((at, plan.err()?)))
            .collect();
        conflicts.push(first);
        Ok(Err(conflicts))
    }

    /// What stands against taking each of the resources, as they are seen now; `None` where nothing does.
    pub fn conflicts(&self, asks: &[Ask]) -> Result<Vec<Option<Conflict>>, Error> {
        let plans = self.plan_all(asks)?.into_iter();
        Ok(plans.map(Result::err).collect())
    }

    /// Takes one, by how it is seen now.
    pub fn take_now(
        &self,
        ask: &Ask,
        before: &[Ask],
        taken: &[Taken],
    ) -> Result<Result<Taken, Conflict>, Error> {
        self.store.look_anew();
        match self.plan(ask) {
            Ok(plan) => self.take(ask, plan, before, taken),
            Err(conflict) => Ok(Err(conflict)),
        }
    }

    /// What is to be done about each resource, as they are seen now, or what stands against taking it.
    fn plan_all(&self, asks: &[Ask]) -> Result<Vec<Result<Plan, Conflict>>, Error> {
        let mut plans: Vec<_> = if let [ask] = asks {
            vec![self.plan(ask)]
        } else {
            let ticket = |ask: &Ask| mutex::ticket(ask.resource.as_bytes());
            let tickets: Vec<_> = asks.iter().map(ticket).collect();
            let resources: Vec<_> = asks.iter().map(|ask| ask.resource).collect();
            let looks = self.store.look_at_all(&resources);
            let found = asks.iter().zip(tickets).zip(looks);
            found
                .map(|((ask, ticket), look)| self.plan_by(ask, ticket, look))
                .collect()
        };
        if asks.iter().any(|ask| ask.terms.max_per_owner.is_some()) {
            let mut wanted = quota::Wanted::default();
            for (ask, plan) in asks.iter().zip(&mut plans) {
                let is_grant = matches!(
                    plan,
                    Ok(Plan::Alone {
                        decision: Decision::Grant,
                        ..
                    })
                );
                if is_grant
                    && let Some(quota) = wanted.add(self.store, &self.claim.caller.owner, ask)?
                {
                    *plan = Err(Conflict::Quota(quota));
                }
            }
        }
        Ok(plans)
    }

    /// The same for one, without its quota.
    fn plan(&self, ask: &Ask) -> Result<Plan, Conflict> {
        let ticket = mutex::ticket(ask.resource.as_bytes());
        self.plan_by(ask, ticket, self.store.look(ask.resource))
    }

    fn plan_by(&self, ask: &Ask, ticket: Ticket, mut look: Look) -> Result<Plan, Conflict> {
        if look.is_shared || !ask.is_exclusive() {
            return Share::new(self, ask).plan().map(|()| Plan::Share);
        }
        let decision = self.decide(look.lock.as_ref(), Timestamp::now());
        match decision {
            Decision::Held => {
                let holder = look.lock.take();
                return Err(Conflict::Held(holder.expect("somebody holds what is held")));
            }
            _ if look.taker.is_some() => return Err(Conflict::of(look.taker)),
            Decision::Grant => self.let_waiters_go_first(ask.resource)?,
            _ => (),
        }
        Ok(Plan::Alone {
            ticket,
            look,
            decision,
        })
    }

    /// Somebody who stands in line is in the way of who does not.
    pub fn let_waiters_go_first(&self, resource: &Resource) -> Result<(), Conflict> {
        let resource = resource.as_bytes();
        match self.turn == Turn::AfterWaiters && queue::others_wait(resource) {
            true => Err(Conflict::Contended {
                owner: None,
                pid: queue::first_in_line(resource),
            }),
            false => Ok(()),
        }
    }

    pub fn decide(&self, current: Option<&Lock>, t: Timestamp) -> Decision {
        let is_holder = |lock: &Lock| self.claim.caller.holds(lock);
        decide(current, is_holder, self.claim.session.as_ref(), t)
    }

    /// Carries the plan out, or a newer one where somebody was faster. What has been taken before for the
    /// same call counts against the owner's quota.
    fn take(
        &self,
        ask: &Ask,
        mut plan: Plan,
        before: &[Ask],
        taken: &[Taken],
    ) -> Result<Result<Taken, Conflict>, Error> {
        let owner = &self.claim.caller.owner;
        let granted = before.iter().zip(taken);
        let granted = granted.filter(|(_, taken)| taken.decision == Decision::Grant);
        let granted = granted.map(|(ask, _)| ask.resource);
        let most = ask.terms.max_per_owner;
        let limit = quota::Limit::enter(self.store, owner, ask.resource, most, granted);
        for _ in 0..TRIES {
            let written = match plan {
                Plan::Share => return Share::new(self, ask).take(&limit),
                Plan::Alone {
                    ticket,
                    decision: Decision::Grant,
                    ..
                } => {
                    let inside = ticket.enter();
                    if inside.is_ahead {
                        drop(inside);
                        std::thread::sleep(MOMENT);
                        None
                    } else {
                        if !inside.unchanged {
                            self.store.look_anew();
                            match self.plan(ask) {
                                Ok(now) => plan = now,
                                Err(conflict) => return Ok(Err(conflict)),
                            }
                        }
                        // Between the looks the caller's own other session may have taken it, or others
                        // units of it.
                        match &plan {
                            Plan::Alone {
                                look,
                                decision: Decision::Grant,
                                ..
                            } => {
                                if let Some(quota) = limit.exceeded()? {
                                    return Ok(Err(Conflict::Quota(quota)));
                                }
                                let written = self.write(ask, look, Decision::Grant)?;
                                inside.has_written(ask.resource.as_bytes(), ask.units);
                                Some(written)
                            }
                            _ => continue,
                        }
                    }
                }
                Plan::Alone {
                    ref look, decision, ..
                } => Some(self.write(ask, look, decision)?),
            };
            match written {
                Some((Written::Done, taken)) => return Ok(Ok(taken)),
                Some(_) => self.look_again(ask.resource)?,
                None => self.look_again_in_a_moment(),
            }
            match self.plan(ask) {
                Ok(now) => plan = now,
                Err(conflict) => return Ok(Err(conflict)),
            }
        }
        Ok(Err(Conflict::of(None)))
    }

    /// Before looking again at a row that was not as it was seen.
    pub fn look_again(&self, resource: &Resource) -> Result<(), Error> {
        if pg::uses_transaction_snapshot() {
            return Err(Error::Serialization {
                resource: resource.as_text().clone(),
            });
        }
        self.look_again_in_a_moment();
        Ok(())
    }

    pub fn look_again_in_a_moment(&self) {
        pgrx::check_for_interrupts!();
        self.store.look_anew();
    }

    /// Writes what was decided, at a time read now: a lock that was live a moment ago may have lapsed.
    fn write(&self, ask: &Ask, look: &Look, decision: Decision) -> Result<(Written, Taken), Error> {
        self.write_in(ask, look.lock.as_ref(), look.newest, 0, decision)
    }

    /// The same for one of several holds: a grant goes to `slot`, the others stay where they are.
    pub fn write_in(
        &self,
        ask: &Ask,
        seen: Option<&Lock>,
        newest: i64,
        slot: i32,
        decision: Decision,
    ) -> Result<(Written, Taken), Error> {
        let version = self.store.draw(newest)?;
        let now = Timestamp::now();
        let (lock, capped) = self.claim.apply(decision, seen, ask, slot, now, version);
        let resource = ask.resource;
        let written = match (decision, seen) {
            (Decision::Renew | Decision::Move, Some(seen)) => {
                self.store.update(resource, seen, &lock)?
            }
            _ => self.store.grant(resource, seen, &lock)?,
        };
        let taken = Taken {
            decision,
            before: seen.cloned(),
            capped,
            lock,
        };
        Ok((written, taken))
    }
}

/// Tells the journal what was taken.
pub fn note(asks: &[Ask], taken: &[Taken]) -> Result<(), Error> {
    for (ask, taken) in asks.iter().zip(taken) {
        let event = match taken.decision {
            Decision::Renew => Event::Renewed,
            Decision::Move => Event::Moved,
            Decision::Grant | Decision::Held => Event::Granted,
        };
        let mut before = taken.before.as_ref();
        if event == Event::Granted
            && let Some(lapsed) = before.take()
        {
            journal::note(&Change::end(Event::Lapsed, ask.resource, lapsed))?;
        }
        journal::note(&Change {
            event,
            resource: ask.resource,
            before,
            after: Some(&taken.lock),
            reason: None,
        })?;
    }
    Ok(())
}
