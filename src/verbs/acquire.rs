//! `softlock_acquire`: take a resource, prolong the hold on it, or say who has it.

use std::slice;
use std::time::{Duration, Instant};

use super::seize::{Conflict, seize};
use crate::answer::{Acquired, Contended, Held, Holder};
use crate::error::Error;
use crate::lock::Claim;
use crate::names::Resource;
use crate::pg::{self, Jsonb, Timestamp, key_lock};
use crate::store::Written;

/// How often the first in line looks whether the lock is free. Nobody is told of a release, since a
/// notification would take a lock that all of the cluster's commits share.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Takes `resource` for the claim and answers what came of it, trying for as long as `wait`. With a
/// `wait` of zero it never waits for anybody.
pub fn acquire(resource: &Resource, claim: &Claim, wait: Duration) -> Result<Jsonb, Error> {
    let got = match attempt(resource, claim)? {
        Err(_) if !wait.is_zero() => attempt_until(resource, claim, Instant::now() + wait)?,
        got => got,
    };
    Ok(match got {
        Ok(written) => Jsonb::of(&Acquired {
            acquired: true,
            outcome: written.decision.outcome(),
            resource: resource.as_str(),
            owner: claim.caller.owner.as_str(),
            session: written.lock.session.as_deref(),
            token: written.lock.token,
            acquired_at: written.lock.acquired_at,
            expires_at: written.lock.expires_at,
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
fn attempt<'a>(
    resource: &'a Resource,
    claim: &Claim,
) -> Result<Result<Written<'a>, Conflict>, Error> {
    let got = seize(slice::from_ref(resource), claim)?;
    Ok(got
        .map(|mut written| written.remove(0))
        .map_err(|mut conflicts| conflicts.remove(0).1))
}

/// Tries until `deadline`. Who waits stands in line for the key's lock, first come, first served;
/// the first in line has it and looks again and again. Meanwhile whoever does not wait finds the
/// key contended, so that no newcomer overtakes; the holder itself is not hindered, since renewing
/// and releasing do not need that lock.
fn attempt_until<'a>(
    resource: &'a Resource,
    claim: &Claim,
    deadline: Instant,
) -> Result<Result<Written<'a>, Conflict>, Error> {
    if !key_lock::lock_until(resource.as_str(), deadline) {
        return attempt(resource, claim);
    }
    let got = loop {
        let got = attempt(resource, claim)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let lapse = match &got {
            Ok(_) => break got,
            Err(_) if left.is_zero() => break got,
            Err(Conflict::Held(lock)) => lock
                .expires_at
                .micros_since(Timestamp::now())
                .try_into()
                .map(Duration::from_micros),
            Err(Conflict::Contended) => Ok(LOOK_EVERY),
        };
        pg::nap(LOOK_EVERY.min(left).min(lapse.unwrap_or(Duration::ZERO)));
    };
    // Where it was granted, the transaction has the lock a second time and keeps that one.
    key_lock::unlock(resource.as_str());
    Ok(got)
}
