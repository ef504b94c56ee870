//! `softlock_release`: give a hold back.

use super::hold;
use crate::answer::Released;
use crate::error::Error;
use crate::lock::{Caller, Refusal};
use crate::names::Resource;
use crate::pg::{Jsonb, Timestamp};
use crate::store;

/// Frees the caller's live lock. Asking again is harmless.
pub fn release(resource: &Resource, caller: &Caller, token: Option<i64>) -> Result<Jsonb, Error> {
    let answer = |outcome, holder| Released {
        released: outcome == "released",
        outcome,
        resource: resource.as_str(),
        holder,
    };
    loop {
        let seen = match hold::look(resource, caller, token) {
            Ok(seen) => seen,
            Err(refused) => {
                return Ok(Jsonb::of(&answer(
                    refused.refusal.outcome(),
                    refused.holder(),
                )));
            }
        };
        if store::delete(resource, &seen) {
            // It may have lapsed while the row was waited for; then there was nothing to free.
            let live = seen.is_live(Timestamp::now());
            let outcome = if live {
                "released"
            } else {
                Refusal::Expired.outcome()
            };
            return Ok(Jsonb::of(&answer(outcome, None)));
        }
        hold::may_look_again(resource)?;
    }
}
