//! `softlock_release`: give a hold back.

use super::hold;
use crate::answer;
use crate::error::Error;
use crate::journal::{self, Change, Event};
use crate::lock::{Caller, Refusal};
use crate::names::Resource;
use crate::pg::{Json, Timestamp};
use crate::store::{Patience, Store, Wait, Written};

/// Frees the caller's live lock. Asking again is harmless.
pub fn release(resource: &Resource, caller: &Caller, token: Option<i64>) -> Result<Json, Error> {
    Store::with(Patience::Little, |store| {
        loop {
            let seen = match hold::look(store, resource, caller, token.as_slice()) {
                Ok(seen) => seen,
                Err(refused) => {
                    let outcome = refused.refusal.outcome();
                    return Ok(answer::released(resource, outcome, Some(&refused)));
                }
            };
            if store.delete(resource, &seen, Wait::Yes)? == Written::Done {
                // It may have lapsed while the row was waited for; then there was nothing to free.
                let (event, outcome) = match seen.is_live(Timestamp::now()) {
                    true => (Event::Released, "released"),
                    false => (Event::Lapsed, Refusal::Expired.outcome()),
                };
                journal::note(&Change::end(event, resource, &seen))?;
                return Ok(answer::released(resource, outcome, None));
            }
            hold::look_again(store, resource)?;
        }
    })
}
