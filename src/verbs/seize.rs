//! Taking a set of resources: all of them, or none, without ever waiting.
//!
//! It looks before it locks, so that a refused caller touches nothing: no row lock, no transaction
//! id, no WAL. Who would be granted a resource takes the key's lock and then looks again, because
//! somebody may have been granted it between the look and the lock. The time that decides is read
//! after that. A live lock of the caller's own needs no key lock: its row serializes.

use std::collections::HashSet;

use crate::error::Error;
use crate::lock::{Claim, Decision, Lock, decide};
use crate::names::Resource;
use crate::pg::probe::Probe;
use crate::pg::{self, Timestamp, key_lock, subtransaction};
use crate::store::{self, Change, Written};

/// Why a resource can't be had.
#[derive(Debug)]
pub enum Conflict {
    /// Somebody else holds it.
    Held(Lock),
    /// Another transaction is deciding about it.
    Contended,
}

/// Conflicts, each with the position of its resource.
pub type Conflicts = Vec<(usize, Conflict)>;

/// What was found for a resource that may be had.
struct Found<'a> {
    resource: &'a Resource,
    row: Option<Lock>,
    decision: Decision,
    key_locked: bool,
}

/// Takes the resources for the claim: the rows as written, or every conflict with its resource's
/// position, and then nothing is left behind. The resources must be distinct and in byte order.
pub fn seize<'a>(
    resources: &'a [Resource],
    claim: &Claim,
) -> Result<Result<Vec<Written<'a>>, Conflicts>, Error> {
    Probe::with(|probe| {
        loop {
            let (t, found) = match decide_all(probe, resources, claim) {
                Ok(decided) => decided,
                Err(conflicts) => return Ok(Err(conflicts)),
            };
            let missed = match write_all(probe, &found, claim, t)? {
                Ok(written) => return Ok(Ok(written)),
                Err(missed) => missed,
            };
            // Somebody else is writing these rows, or has just written them.
            unlock(&found);
            if pg::uses_transaction_snapshot() {
                return Err(Error::Serialization {
                    resource: resources[missed[0]].as_str().into(),
                });
            }
            probe.look_anew();
            let unchanged = |&at: &usize| {
                let now = probe.find(found[at].resource.as_str());
                now.zip(found[at].row.as_ref())
                    .is_some_and(|(now, seen)| now.is_same_as(seen))
            };
            let contended: Vec<_> = missed.into_iter().filter(unchanged).collect();
            if !contended.is_empty() {
                return Ok(Err(contended
                    .into_iter()
                    .map(|at| (at, Conflict::Contended))
                    .collect()));
            }
            probe.look_anew();
        }
    })
}

/// Decides about each resource at one time `t`. On success this transaction has the key's lock of
/// every resource that it is to be granted.
fn decide_all<'a>(
    probe: &mut Probe,
    resources: &'a [Resource],
    claim: &Claim,
) -> Result<(Timestamp, Vec<Found<'a>>), Conflicts> {
    let decision = |row: Option<&Lock>, t| {
        decide(
            row,
            |lock| claim.caller.holds(lock),
            claim.session.as_ref(),
            t,
        )
    };
    let look = |probe: &Probe| {
        let found = resources.iter().map(|r| probe.find(r.as_str()));
        found.collect::<Vec<_>>()
    };

    let mut conflicts = Vec::new();
    let mut contended = HashSet::new();
    let mut key_locked = vec![false; resources.len()];
    let rows = look(probe);
    let t = Timestamp::now();
    for (at, row) in rows.iter().enumerate() {
        if decision(row.as_ref(), t) == Decision::Grant {
            key_locked[at] = key_lock::try_lock(resources[at].as_str());
            if !key_locked[at] {
                contended.insert(at);
            }
        }
    }

    let rows = if key_locked.contains(&true) && probe.may_see_more() {
        look(probe)
    } else {
        rows
    };
    let t = Timestamp::now();
    let mut found = Vec::with_capacity(resources.len());
    for (at, (resource, row)) in resources.iter().zip(rows).enumerate() {
        match (decision(row.as_ref(), t), row) {
            (Decision::Held, Some(lock)) => conflicts.push((at, Conflict::Held(lock))),
            // Lapsed since the first look: whoever comes next finds it free.
            (Decision::Grant, _) if !key_locked[at] => conflicts.push((at, Conflict::Contended)),
            _ if contended.contains(&at) => conflicts.push((at, Conflict::Contended)),
            (decision, row) => {
                found.push(Found {
                    resource,
                    row,
                    decision,
                    key_locked: key_locked[at],
                });
                continue;
            }
        }
        if key_locked[at] {
            key_lock::unlock(resource.as_str());
        }
    }
    if conflicts.is_empty() {
        return Ok((t, found));
    }
    unlock(&found);
    Err(conflicts)
}

/// Writes what was decided. `Err` with the positions of rows that are not as they were seen, or are
/// locked by another transaction; then nothing is written.
fn write_all<'a>(
    probe: &Probe,
    found: &[Found<'a>],
    claim: &Claim,
    t: Timestamp,
) -> Result<Result<Vec<Written<'a>>, Vec<usize>>, Error> {
    let changes = found.iter().map(|found| Change {
        resource: found.resource,
        seen: found.row.as_ref(),
        decision: found.decision,
    });
    let changes: Vec<_> = changes.collect();
    let write = || store::write(probe, &changes, claim, t);
    if changes.len() <= 1 || changes.iter().all(|change| change.seen.is_none()) {
        return write();
    }
    // One missed row undoes the others, so that a refused cart leaves no row lock either.
    let done = subtransaction::attempt(|| match write() {
        Ok(Ok(written)) => Ok(written),
        Ok(Err(missed)) => Err(Ok(missed)),
        Err(error) => Err(Err(error)),
    });
    match done {
        Ok(written) => Ok(Ok(written)),
        Err(Ok(missed)) => Ok(Err(missed)),
        Err(Err(error)) => Err(error),
    }
}

fn unlock(found: &[Found]) {
    for found in found.iter().filter(|found| found.key_locked) {
        key_lock::unlock(found.resource.as_str());
    }
}
