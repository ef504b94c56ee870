//! `softlock_release_all`: give back an owner's cart, or all of them.

use crate::answer::ReleasedAll;
use crate::error::Error;
use crate::lock::{Caller, Lock};
use crate::names::{Resource, Session};
use crate::pg::{Jsonb, Timestamp};
use crate::store;

/// Frees the caller's live locks, those of one session where it is given. Locks of the same owner
/// that were taken in a role the caller does not act for stay.
pub fn release_all(caller: &Caller, session: Option<&Session>) -> Result<Jsonb, Error> {
    let may_free = |lock: &Lock, t| {
        lock.is_live(t)
            && caller.holds(lock)
            && session.is_none_or(|session| lock.session.as_deref() == Some(session.as_str()))
    };
    let names = |rows: Vec<(String, Lock)>, t| -> Result<Vec<Resource>, Error> {
        let mine = rows.into_iter().filter(|(_, lock)| may_free(lock, t));
        mine.map(|(resource, _)| Resource::parse(Some(&resource)))
            .collect()
    };
    let t = Timestamp::now();
    let asked = names(store::live_of_owner(caller.owner.as_str(), t), t)?;
    // What could be freed a moment ago may have changed hands while its row was waited for.
    let rows = store::lock_rows(asked.iter());
    let freed = names(rows, Timestamp::now())?;
    store::delete_many(freed.iter());
    Ok(Jsonb::of(&ReleasedAll {
        released_count: freed.len(),
        resources: freed.iter().map(Resource::as_str).collect(),
    }))
}
