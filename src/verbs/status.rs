//! `softlock_status`: who holds what, for a list of resources.

use crate::error::Error;
use crate::lock::{Caller, Lock};
use crate::names::{Owner, Resource};
use crate::pg::Timestamp;
use crate::pg::probe::Probe;

/// What is known of one resource.
pub struct Status {
    pub resource: String,
    /// The live lock, if there is one.
    pub lock: Option<Lock>,
    /// Whether that lock is the asking owner's.
    pub mine: bool,
    /// When it was looked at.
    pub t: Timestamp,
}

/// Looks at each resource, in the order asked.
pub fn status(resources: &[Resource], owner: Option<Owner>) -> Result<Vec<Status>, Error> {
    let caller = owner.map(Caller::new);
    Ok(Probe::with(|probe| {
        let t = Timestamp::now();
        let look = |resource: &Resource| {
            let lock = probe.find(resource.as_str()).filter(|lock| lock.is_live(t));
            let mine = match (&lock, &caller) {
                (Some(lock), Some(caller)) => caller.holds(lock),
                _ => false,
            };
            Status {
                resource: resource.as_str().to_owned(),
                lock,
                mine,
                t,
            }
        };
        resources.iter().map(look).collect()
    }))
}
