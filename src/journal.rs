//! What has become of locks, and what was refused: the verbs say it here once, for the statistics, for
//! those who listen and for the history.

use crate::error::Error;
use crate::lock::Lock;
use crate::names::{Reason, Resource};
use crate::pg::row::Row;
use crate::{events, history, statistics};

/// What can happen to a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Granted,
    Renewed,
    /// To another session, or to another owner.
    Moved,
    Released,
    Consumed,
    Broken,
    /// It has expired, and was swept, or taken by somebody else.
    Lapsed,
}

impl Event {
    /// What listeners and the history call it.
    pub fn name(self) -> &'static str {
        match self {
            Event::Granted => "granted",
            Event::Renewed => "renewed",
            Event::Moved => "moved",
            Event::Released => "released",
            Event::Consumed => "consumed",
            Event::Broken => "broken",
            Event::Lapsed => "lapsed",
        }
    }
}

/// What is counted without a lock's being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Held,
    Contended,
    Quota,
    ConsumeFailure,
    Guard,
}

/// A change of a lock that has been written in this transaction.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    pub event: Event,
    pub resource: &'a Resource,
    /// The lock as it was; `None` where there was none.
    pub before: Option<&'a Lock>,
    /// The lock as it is; `None` where it has ended.
    pub after: Option<&'a Lock>,
    pub reason: Option<&'a Reason>,
}

impl<'a> Change<'a> {
    /// A lock that has ended.
    pub fn end(event: Event, resource: &'a Resource, lock: &'a Lock) -> Self {
        Change {
            event,
            resource,
            before: Some(lock),
            after: None,
            reason: None,
        }
    }

    /// A lock that lives on, otherwise than before.
    pub fn kept(event: Event, resource: &'a Resource, before: &'a Lock, after: &'a Lock) -> Self {
        Change {
            event,
            resource,
            before: Some(before),
            after: Some(after),
            reason: None,
        }
    }

    /// The lock that has ended, or has moved away from its owner, or from its session.
    pub fn ended(&self) -> Option<&'a Lock> {
        self.before.filter(|_| self.event != Event::Renewed)
    }

    /// The lock that an owner has got, or keeps, and by what; to a new owner a move is a grant.
    pub fn taken(&self) -> Option<(Event, &'a Lock)> {
        match (self.event, self.before, self.after) {
            (Event::Moved, Some(before), Some(after)) => {
                (before.owner != after.owner).then_some((Event::Granted, after))
            }
            (event, _, after) => after.map(|lock| (event, lock)),
        }
    }
}

/// To be told of each change when it has been written.
pub fn note(change: &Change) -> Result<(), Error> {
    statistics::count_event(change.event);
    events::note(change);
    history::note(change)
}

/// To be told of each lapsed lock that a sweep has deleted.
pub fn note_lapsed(row: &Row) -> Result<(), Error> {
    events::note_lapsed(row);
    history::note_lapsed(row)
}

/// To be told of each refusal.
pub fn refused(refusal: Refusal) {
    statistics::count_refusal(refusal);
}

/// To be told how long a call has waited, and whether in vain.
pub fn waited(time: std::time::Duration, in_vain: bool) {
    statistics::count_wait(time, in_vain);
}
