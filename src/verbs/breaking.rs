//! `softlock_break`: free anybody's lock. (`break` is a word of Rust's.)

use super::break_all::{break_one, why};
use crate::answer;
use crate::error::Error;
use crate::lock::Lock;
use crate::names::{Reason, Resource};
use crate::pg::{self, Json, Level, Report, Timestamp};
use crate::store::{Patience, Store};
use crate::text::text;
use crate::units::Slots;

/// Frees the live lock on `resource`, or all of them where several hold units of it, whoever holds them, and
/// says in the log who did it and why, once it has happened. Where nothing is committed, but somebody is
/// taking the resource, it names that one.
pub fn break_lock(resource: &Resource, reason: Option<&Reason>) -> Result<Json, Error> {
    Store::with(Patience::Little, |store| {
        loop {
            let mut holds = store.holds(resource, Slots::ALL);
            let t = Timestamp::now();
            let taker = holds.iter_mut().find_map(|hold| hold.look.taker.take());
            let locks = holds.into_iter().filter_map(|hold| hold.look.lock);
            let live: Vec<_> = locks.filter(|lock| lock.is_live(t)).collect();
            if live.is_empty() {
                return Ok(match taker {
                    Some(taker) => answer::break_contended(resource, &taker),
                    None => answer::not_broken(resource),
                });
            }
            let mut broken = Vec::new();
            for lock in live {
                if let Some(lock) = break_one(store, resource, lock, |_| true, reason)? {
                    pg::at_commit::log(report(resource, &lock, reason));
                    broken.push((resource.clone(), lock));
                }
            }
            match broken.as_mut_slice() {
                // What was live has gone while its row was waited for.
                [] => (),
                [(_, lock)] => {
                    lock.metadata = store.metadata(lock);
                    return Ok(answer::broken(resource, lock));
                }
                several => return Ok(answer::broken_units(resource, several)),
            }
        }
    })
}

fn report(resource: &Resource, lock: &Lock, reason: Option<&Reason>) -> (Level, Report) {
    let (role, by) = (pg::role_name(lock.role), pg::role_name(pg::current_role()));
    let line = text![
        "softlock broke the lock on \"",
        resource.as_text(),
        "\" of owner \"",
        lock.owner,
        "\" (role \"",
        role,
        "\"), by role \"",
        by,
        "\": ",
        why(reason)
    ];
    (Level::Log, Report::line(line))
}
