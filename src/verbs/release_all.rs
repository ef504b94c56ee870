//! `softlock_release_all`: give back an owner's cart, or all of them.

use super::hold;
use crate::answer;
use crate::error::Error;
use crate::journal::{self, Change, Event};
use crate::lock::{Caller, Lock};
use crate::names::Session;
use crate::pg::{Json, Timestamp};
use crate::store::{Patience, Store, Wait, Written};

/// Frees the caller's live locks, those of one session where it is given. Locks of the same owner
/// that were taken in a role the caller does not act for stay.
pub fn release_all(caller: &Caller, session: Option<&Session>) -> Result<Json, Error> {
    Store::with(Patience::Little, |store| {
        let is_meant = |lock: &Lock| hold::is_meant(lock, caller, session);
        let found = hold::all(store, caller, session, Timestamp::now())?;
        let mut freed = Vec::with_capacity(found.len());
        for (resource, lock) in found {
            let mut seen = Some(lock);
            // What could be freed a moment ago may have changed hands while its row was waited for.
            while let Some(lock) =
                seen.filter(|lock| lock.is_live(Timestamp::now()) && is_meant(lock))
            {
                if store.delete(&resource, &lock, Wait::Yes)? == Written::Done {
                    let is_live = lock.is_live(Timestamp::now());
                    let event = if is_live {
                        Event::Released
                    } else {
                        Event::Lapsed
                    };
                    journal::note(&Change::end(event, &resource, &lock))?;
                    if is_live {
                        freed.push(resource);
                    }
                    break;
                }
                hold::look_again(store, &resource)?;
                seen = hold::seen(store, &resource, caller);
            }
        }
        Ok(answer::released_all(&freed))
    })
}
