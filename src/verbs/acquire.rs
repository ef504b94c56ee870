//! `softlock_acquire`: take a resource, prolong the hold on it, or say who has it.

use super::seize::{Conflict, seize};
use crate::answer::{Acquired, Contended, Held, Holder};
use crate::error::Error;
use crate::lock::{Claim, Decision};
use crate::names::Resource;
use crate::pg::probe::Probe;
use crate::pg::{self, Jsonb, Timestamp, key_lock};
use crate::store::{self, Written};

/// Takes `resource` for the claim and answers what came of it. Never waits.
pub fn acquire(resource: &Resource, claim: &Claim) -> Result<Jsonb, Error> {
    Ok(match attempt(resource, claim)? {
        Ok(written) => Jsonb::of(&Acquired {
            acquired: true,
            outcome: outcome(written.decision),
            resource: resource.as_str(),
            owner: claim.caller.owner.as_str(),
            session: written.session.as_deref(),
            token: written.token,
            acquired_at: written.acquired_at,
            expires_at: written.expires_at,
        }),
        Err(Conflict::Held(lock)) => Jsonb::of(&Held {
            acquired: false,
            outcome: "held",
            resource: resource.as_str(),
            holder: Holder::of(&lock, Timestamp::now()),
        }),
        Err(Conflict::Contended) => Jsonb::of(&Contended {
            acquired: false,
            outcome: "contended",
            resource: resource.as_str(),
        }),
    })
}

/// One try, without waiting: the row as written, or what stands against it.
fn attempt(resource: &Resource, claim: &Claim) -> Result<Result<Written, Conflict>, Error> {
    loop {
        let seized = match seize(std::slice::from_ref(resource), claim) {
            Ok(seized) => seized,
            Err(mut conflicts) => return Ok(Err(conflicts.remove(0).1)),
        };
        let found = seized.decisions[0];
        if !found.has_row {
            return Ok(Ok(store::insert(resource, claim, seized.t)));
        }
        if let Some(written) = store::rewrite(resource, claim, found.decision, seized.t) {
            return Ok(Ok(written));
        }
        // The row could not be had although its key's lock is ours: a sweep is deleting it.
        key_lock::unlock(resource.as_str());
        if pg::uses_transaction_snapshot() {
            return Err(Error::Serialization {
                resource: resource.as_str().into(),
            });
        }
        if Probe::with(|probe| probe.find(resource.as_str())).is_some() {
            return Ok(Err(Conflict::Contended));
        }
        // The sweep has committed meanwhile: the resource is free.
    }
}

/// The outcome as it stands in answers.
fn outcome(decision: Decision) -> &'static str {
    match decision {
        Decision::Grant => "granted",
        Decision::Renew => "renewed",
        Decision::Move => "moved",
        Decision::Held => "held",
    }
}
