//! Deciding about a set of resources: all of them, or none.
//!
//! It looks before it locks, so that a refused caller touches nothing: no row lock, no transaction
//! id, no WAL. Only where nobody else holds a resource does it take the key's lock, and then it
//! looks again, because somebody may have been granted it between the look and the lock. The time
//! that decides is read after that. It never waits.

use crate::lock::{Claim, Decision, Lock, decide};
use crate::names::Resource;
use crate::pg::probe::Probe;
use crate::pg::{Timestamp, key_lock};

/// Why a resource can't be had.
#[derive(Debug)]
pub enum Conflict {
    /// Somebody else holds it.
    Held(Lock),
    /// Another transaction is deciding about it.
    Contended,
}

/// A set of resources whose key locks this transaction has, with what to do about each.
pub struct Seized {
    pub t: Timestamp,
    /// In the order of the resources asked for.
    pub decisions: Vec<Found>,
}

/// What was found for a resource: the decision, and whether there is a row to rewrite.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    pub decision: Decision,
    pub has_row: bool,
}

/// Takes the key locks of `resources` and decides about each, or answers every conflict (by the
/// resource's position) and leaves nothing behind.
pub fn seize(resources: &[Resource], claim: &Claim) -> Result<Seized, Vec<(usize, Conflict)>> {
    let mut conflicts = Vec::new();
    let held = |current: Option<&Lock>, t| {
        decide(
            current,
            |lock| claim.caller.holds(lock),
            claim.session.as_ref(),
            t,
        )
    };

    let mut locked = Vec::with_capacity(resources.len());
    Probe::with(|probe| {
        for (at, resource) in resources.iter().enumerate() {
            let current = probe.find(resource.as_str());
            if held(current.as_ref(), Timestamp::now()) == Decision::Held {
                conflicts.extend(current.map(|lock| (at, Conflict::Held(lock))));
            } else if key_lock::try_lock(resource.as_str()) {
                locked.push(at);
            } else {
                conflicts.push((at, Conflict::Contended));
            }
        }
    });

    let mut decisions = Vec::with_capacity(locked.len());
    let mut t = Timestamp::now();
    Probe::with(|probe| {
        let rows: Vec<_> = locked
            .iter()
            .map(|&at| probe.find(resources[at].as_str()))
            .collect();
        t = Timestamp::now();
        for (&at, row) in locked.iter().zip(rows) {
            let has_row = row.is_some();
            match (held(row.as_ref(), t), row) {
                (Decision::Held, Some(lock)) => conflicts.push((at, Conflict::Held(lock))),
                (decision, _) => decisions.push(Found { decision, has_row }),
            }
        }
    });

    if conflicts.is_empty() {
        return Ok(Seized { t, decisions });
    }
    for at in locked {
        key_lock::unlock(resources[at].as_str());
    }
    conflicts.sort_by_key(|&(at, _)| at);
    Err(conflicts)
}
