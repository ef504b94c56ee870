//! `softlock_release`: give a hold back.

use super::hold::{self, Refused};
use crate::answer::Released;
use crate::error::Error;
use crate::lock::{Caller, Refusal};
use crate::names::Resource;
use crate::pg::probe::Probe;
use crate::pg::{Jsonb, Timestamp};
use crate::store;

/// Frees the caller's live lock. Asking again is harmless.
pub fn release(resource: &Resource, caller: &Caller, token: Option<i64>) -> Result<Jsonb, Error> {
    let answer = |outcome, refused: Option<&Refused>| {
        Jsonb::of(&Released {
            released: outcome == "released",
            outcome,
            resource: resource.as_str(),
            holder: refused.and_then(Refused::holder),
        })
    };
    loop {
        // The answer, or None when the row has been written since the look.
        let attempt = |probe: &mut Probe| -> Result<Option<Jsonb>, Error> {
            let seen = match hold::look(probe, resource, caller, token) {
                Ok(seen) => seen,
                Err(refused) => {
                    return Ok(Some(answer(refused.refusal.outcome(), Some(&refused))));
                }
            };
            if !store::delete(probe, &seen)? {
                return Ok(None);
            }
            // It may have lapsed while the row was waited for; then there was nothing to free.
            let outcome = match seen.is_live(Timestamp::now()) {
                true => "released",
                false => Refusal::Expired.outcome(),
            };
            Ok(Some(answer(outcome, None)))
        };
        if let Some(answer) = Probe::with(attempt)? {
            return Ok(answer);
        }
        hold::may_look_again(resource)?;
    }
}
