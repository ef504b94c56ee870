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
use crate::store::{self, Rewrite, Written};

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
pub fn seize(
    resources: &[Resource],
    claim: &Claim,
) -> Result<Result<Vec<Written>, Conflicts>, Error> {
    loop {
        let (t, found) = match decide_all(resources, claim) {
            Ok(decided) => decided,
            Err(conflicts) => return Ok(Err(conflicts)),
        };
        let missed = match write_all(&found, claim, t) {
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
        let unchanged: Vec<_> = Probe::with(|probe| {
            let same = |&at: &usize| {
                let now = probe.find(found[at].resource.as_str());
                now.zip(found[at].row.as_ref())
                    .is_some_and(|(now, seen)| now.is_same_as(seen))
            };
            missed.into_iter().filter(same).collect()
        });
        if !unchanged.is_empty() {
            return Ok(Err(unchanged
                .into_iter()
                .map(|at| (at, Conflict::Contended))
                .collect()));
        }
    }
}

/// Decides about each resource at one time `t`. On success this transaction has the key's lock of
/// every resource that it is to be granted.
fn decide_all<'a>(
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
    let look = || {
        Probe::with(|probe| {
            resources
                .iter()
                .map(|r| probe.find(r.as_str()))
                .collect::<Vec<_>>()
        })
    };

    let mut conflicts = Vec::new();
    let mut contended = HashSet::new();
    let mut key_locked = vec![false; resources.len()];
    let rows = look();
    let t = Timestamp::now();
    for (at, row) in rows.iter().enumerate() {
        if decision(row.as_ref(), t) == Decision::Grant {
            key_locked[at] = key_lock::try_lock(resources[at].as_str());
            if !key_locked[at] {
                contended.insert(at);
            }
        }
    }

    let rows = if key_locked.contains(&true) {
        look()
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
fn write_all(found: &[Found], claim: &Claim, t: Timestamp) -> Result<Vec<Written>, Vec<usize>> {
    let changes: Vec<_> = found
        .iter()
        .filter_map(|f| {
            let seen = f.row.as_ref()?;
            Some(Rewrite {
                resource: f.resource,
                seen,
                decision: f.decision,
            })
        })
        .collect();
    let new: Vec<_> = found
        .iter()
        .filter(|f| f.row.is_none())
        .map(|f| f.resource)
        .collect();
    match (new.as_slice(), changes.as_slice()) {
        ([], []) => Ok(Vec::new()),
        ([one], []) => Ok(vec![store::insert(one, claim, t)]),
        ([], [one]) => store::rewrite(one, claim, t)
            .map(|w| vec![w])
            .ok_or(vec![0]),
        (new, []) => Ok(store::insert_many(new, claim, t)),
        // One missed row undoes the others, so that a refused cart leaves no row lock either.
        (new, changes) => subtransaction::attempt(|| {
            let mut written = store::rewrite_many(changes, claim, t);
            if written.len() < changes.len() {
                let had: HashSet<_> = written.iter().map(|w| w.resource.as_str()).collect();
                let missed = |(at, f): (usize, &Found)| {
                    (f.row.is_some() && !had.contains(f.resource.as_str())).then_some(at)
                };
                return Err(found.iter().enumerate().filter_map(missed).collect());
            }
            if !new.is_empty() {
                written.extend(store::insert_many(new, claim, t));
            }
            Ok(written)
        }),
    }
}

fn unlock(found: &[Found]) {
    for found in found.iter().filter(|found| found.key_locked) {
        key_lock::unlock(found.resource.as_str());
    }
}
