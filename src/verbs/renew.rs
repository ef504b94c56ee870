//! `softlock_renew`: prolong a hold that is still live.

use std::{iter, slice};

use super::hold;
use crate::answer::{NotRenewed, Renewed};
use crate::error::Error;
use crate::lock::{Claim, Decision, Lock};
use crate::names::Resource;
use crate::pg::probe::Probe;
use crate::pg::{Jsonb, Timestamp};
use crate::store::{self, Change};

/// Prolongs the caller's live lock to the claim's ttl from now, never shortening it.
pub fn renew(resource: &Resource, claim: &Claim, token: Option<i64>) -> Result<Jsonb, Error> {
    loop {
        if let Some(answer) = Probe::with(|probe| attempt(probe, resource, claim, token))? {
            return Ok(answer);
        }
        hold::may_look_again(resource)?;
        store::lock_rows(iter::once(resource));
    }
}

/// The answer, or `None` when another transaction is writing the row or has just written it.
fn attempt(
    probe: &Probe,
    resource: &Resource,
    claim: &Claim,
    token: Option<i64>,
) -> Result<Option<Jsonb>, Error> {
    let seen = match hold::look(probe, resource, &claim.caller, token) {
        Ok(seen) => seen,
        Err(refused) => {
            return Ok(Some(Jsonb::of(&NotRenewed {
                renewed: false,
                outcome: refused.refusal.outcome(),
                resource: resource.as_str(),
                holder: refused.holder(),
            })));
        }
    };
    let change = Change {
        resource,
        seen: Some(&seen),
        decision: Decision::Renew,
    };
    let written = store::write(probe, slice::from_ref(&change), claim, Timestamp::now())?;
    let answer = |lock: &Lock| {
        Jsonb::of(&Renewed {
            renewed: true,
            outcome: "renewed",
            resource: resource.as_str(),
            token: lock.token,
            expires_at: lock.expires_at,
        })
    };
    Ok(written.ok().map(|written| answer(&written[0].lock)))
}
