//! `softlock_renew`: prolong a hold that is still live.

use super::hold;
use crate::answer;
use crate::error::Error;
use crate::lock::Caller;
use crate::names::{Resource, Ttl};
use crate::pg::Json;
use crate::policy::{Known, terms};
use crate::store::{Patience, Store};

/// Prolongs the caller's live lock to `ttl` from now, never shortening it.
pub fn renew(
    resource: &Resource,
    caller: &Caller,
    ttl: Option<Ttl>,
    token: Option<i64>,
) -> Result<Json, Error> {
    let terms = terms(&Known::now()?, resource, ttl)?;
    Store::with(Patience::Little, |store| {
        let look = || hold::look(store, resource, caller, token.as_slice());
        let prolonged = match look() {
            Ok(seen) => hold::prolong(store, resource, seen, &terms, look)?,
            Err(refused) => Err(refused),
        };
        Ok(match prolonged {
            Ok((lock, capped)) => answer::renewed(resource, &lock, capped),
            Err(refused) => answer::not_renewed(resource, &refused),
        })
    })
}
