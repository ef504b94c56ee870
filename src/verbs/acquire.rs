//! `softlock_acquire`: take a resource, prolong the hold on it, or say who has it.

use std::slice;
use std::time::{Duration, Instant};

use super::conflict::Conflict;
use super::seize::{Taken, Turn, seize};
use crate::answer;
use crate::ask::Ask;
use crate::error::Error;
use crate::journal;
use crate::lock::Claim;
use crate::pg::{self, Json, Timestamp, queue};

/// How often to look whether the table is still locked, or a prepared transaction still there.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Takes what is asked for the claim and answers what came of it, trying for as long as `wait`. With a
/// `wait` of zero it never waits for anybody.
pub fn acquire(ask: &Ask, claim: &Claim, wait: Duration) -> Result<Json, Error> {
    let got = match attempt(ask, claim, Turn::AfterWaiters)? {
        Err(_) if !wait.is_zero() => {
            let begun = Instant::now();
            let got = attempt_until(ask, claim, begun + wait)?;
            journal::waited(begun.elapsed(), got.is_err());
            got
        }
        got => got,
    };
    Ok(match got {
        Ok(taken) => answer::acquired(ask, claim, &taken),
        Err(conflict) => {
            conflict.note();
            answer::refused(ask, &conflict, Timestamp::now())
        }
    })
}

/// One try, without waiting: the lock as written, or what stands against it.
fn attempt(ask: &Ask, claim: &Claim, turn: Turn) -> Result<Result<Taken, Conflict>, Error> {
    let got = seize(slice::from_ref(ask), claim, turn)?;
    Ok(got
        .map(|mut taken| taken.remove(0))
        .map_err(|mut conflicts| conflicts.remove(0).1))
}

/// Stands in line and, once it is first, tries until `deadline`.
fn attempt_until(
    ask: &Ask,
    claim: &Claim,
    deadline: Instant,
) -> Result<Result<Taken, Conflict>, Error> {
    let place = queue::Place::take(ask.resource.as_bytes(), deadline);
    if !place.is_first() {
        return attempt(ask, claim, Turn::AfterWaiters);
    }
    loop {
        let got = attempt(ask, claim, Turn::FirstInLine)?;
        // Nobody would know of what has been granted. The error undoes it.
        if !pg::is_client_there() {
            return Err(Error::ClientGone);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        match &got {
            Ok(_) => return Ok(got),
            Err(_) if left.is_zero() => return Ok(got),
            Err(Conflict::Held(lock)) => place.sleep(left.min(until(lock.expires_at))),
            Err(Conflict::Short(shortage)) => {
                let lapse = shortage.free_at.map_or(left, until);
                place.sleep(left.min(lapse));
            }
            // An owner's other locks end without waking who waits for this one.
            Err(Conflict::Quota(_)) => place.sleep(left.min(LOOK_EVERY)),
            // The whole table is locked, which nobody wakes us for.
            Err(Conflict::Contended { pid: None, .. }) => place.sleep(left.min(LOOK_EVERY)),
            Err(Conflict::Contended { .. }) => place.sleep(left),
        }
    }
}

fn until(time: Timestamp) -> Duration {
    Duration::from_micros(time.micros_since(Timestamp::now()).max(0) as u64)
}
