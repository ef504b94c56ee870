//! `softlock_break`: free anybody's lock. (`break` is a word of Rust's.)

use pgrx::log;

use crate::answer::{Broken, NotBroken};
use crate::error::Error;
use crate::names::{Reason, Resource};
use crate::pg::probe::Probe;
use crate::pg::{self, Jsonb, Timestamp};
use crate::store;

use super::hold;

/// Frees the live lock on `resource`, whoever holds it, and says in the log who did it and why.
pub fn break_lock(resource: &Resource, reason: Option<&Reason>) -> Result<Jsonb, Error> {
    loop {
        // The lock that was freed, if there was one; or that the row has been written since the look.
        let freed = Probe::with(|probe| -> Result<_, Error> {
            let found = probe.find(resource.as_str());
            let Some(lock) = found.filter(|lock| lock.is_live(Timestamp::now())) else {
                return Ok(Ok(None));
            };
            Ok(match store::delete(probe, &lock)? {
                true => Ok(Some(lock)),
                false => Err(hold::may_look_again(resource)?),
            })
        })?;
        let lock = match freed {
            Err(()) => continue,
            Ok(Some(lock)) => lock,
            Ok(None) => {
                return Ok(Jsonb::of(&NotBroken {
                    broken: false,
                    outcome: "not_held",
                    resource: resource.as_str(),
                }));
            }
        };
        let role = pg::role_name(lock.role);
        log!(
            "softlock broke the lock on \"{}\" of owner \"{}\" (role \"{role}\"), by role \"{}\": {}",
            resource.as_str(),
            lock.owner,
            pg::role_name(pg::outer_role()),
            reason.map_or("no reason given", Reason::as_str),
        );
        return Ok(Jsonb::of(&Broken {
            broken: true,
            outcome: "broken",
            resource: resource.as_str(),
            owner: &lock.owner,
            session: lock.session.as_deref(),
            role: &role,
            metadata: lock.metadata.as_ref(),
            acquired_at: lock.acquired_at,
            expires_at: lock.expires_at,
        }));
    }
}
