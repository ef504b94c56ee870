//! `softlock_renew_all`: prolong an owner's cart, or all of them, in one call.

use super::hold;
use crate::answer::{self, Prolonged};
use crate::error::Error;
use crate::lock::Caller;
use crate::names::{Session, Ttl};
use crate::pg::{Json, Timestamp};
use crate::policy::{Known, terms};
use crate::store::{Patience, Store};

/// What became of a lock that is not prolonged.
enum Lost {
    Lapsed,
    Gone,
}

/// Prolongs the caller's live locks, those of one session where it is given, and names those of them that
/// have lapsed. Locks of the same owner that were taken in a role the caller does not act for stay.
pub fn renew_all(
    caller: &Caller,
    session: Option<&Session>,
    ttl: Option<Ttl>,
) -> Result<Json, Error> {
    let mut prolonged = Vec::new();
    let mut lapsed = Vec::new();
    let policies = Known::now()?;
    Store::with(Patience::Little, |store| {
        for (resource, mut lock) in hold::all(store, caller, session, Timestamp::EARLIEST)? {
            if !lock.is_live(Timestamp::now()) {
                lapsed.push(resource);
                continue;
            }
            lock.metadata = store.metadata(&lock);
            let terms = terms(&policies, &resource, ttl)?;
            let look = || match hold::seen(store, &resource, caller) {
                Some(lock) if !hold::is_meant(&lock, caller, session) => Err(Lost::Gone),
                Some(lock) if lock.is_live(Timestamp::now()) => Ok(lock),
                Some(_) => Err(Lost::Lapsed),
                None => Err(Lost::Gone),
            };
            match hold::prolong(store, &resource, lock, &terms, look)? {
                Ok((lock, capped)) => prolonged.push(Prolonged {
                    resource,
                    token: lock.token,
                    expires_at: lock.expires_at,
                    capped,
                }),
                Err(Lost::Lapsed) => lapsed.push(resource),
                Err(Lost::Gone) => (),
            }
        }
        Ok(())
    })?;
    Ok(answer::renewed_all(&prolonged, &lapsed))
}
