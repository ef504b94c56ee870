//! `softlock_break_all`: free the live locks of an owner, a session, a kind, or of long ago.

use super::hold;
use super::sweep::LOGGED;
use crate::answer;
use crate::error::Error;
use crate::journal::{self, Change, Event};
use crate::lock::Lock;
use crate::names::{Owner, Prefix, Reason, Resource, Session};
use crate::pg::{self, Json, Level, Report, Timestamp};
use crate::store::{Patience, Store, Wait, Written};
use crate::text::{list, text};
use crate::units::Slots;

/// Which locks are meant; each that is given must hold.
pub struct Filter {
    pub owner: Option<Owner>,
    pub session: Option<Session>,
    pub prefix: Option<Prefix>,
    /// How long ago they were taken at least, in microseconds.
    pub older_than: Option<i64>,
}

impl Filter {
    /// Whether anything is given.
    pub fn is_empty(&self) -> bool {
        self.owner.is_none()
            && self.session.is_none()
            && self.prefix.is_none()
            && self.older_than.is_none()
    }

    fn matches(&self, resource: &[u8], lock: &Lock, t: Timestamp) -> bool {
        let owner = self.owner.as_ref();
        let session = self.session.as_ref();
        let prefix = self.prefix.as_ref();
        let age = t.micros_since(lock.acquired_at);
        owner.is_none_or(|owner| *owner.as_text() == lock.owner)
            && session.is_none_or(|session| lock.session.as_ref() == Some(session.as_text()))
            && prefix.is_none_or(|prefix| resource.starts_with(prefix.as_text().as_bytes()))
            && self.older_than.is_none_or(|older_than| age >= older_than)
    }
}

/// Frees the live locks that are meant, whoever holds them, and says in the log who did it and why, once it
/// has happened. Waits for holders' own transactions where they are writing the locks.
pub fn break_all(filter: &Filter, reason: Option<&Reason>) -> Result<Json, Error> {
    let broken = Store::with(Patience::Little, |store| {
        let t = Timestamp::now();
        let mut found = Vec::new();
        store.each_live(filter.owner.as_ref().map(Owner::as_text), t, |row| {
            let (resource, lock) = (row.resource(), row.read_without_metadata());
            if filter.matches(resource.as_bytes(), &lock, t) {
                let resource = Resource::from_text(resource).expect("it has been taken");
                found.push((resource, lock));
            }
        })?;
        // In byte order, so that two who free the same locks never deadlock.
        found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut broken = Vec::with_capacity(found.len());
        for (resource, lock) in found {
            let is_meant = |lock: &Lock| filter.matches(resource.as_bytes(), lock, t);
            if let Some(lock) = break_one(store, &resource, lock, is_meant, reason)? {
                broken.push((resource, lock));
            }
        }
        Ok(broken)
    })?;
    if !broken.is_empty() {
        pg::at_commit::log(report(&broken, reason));
    }
    Ok(answer::broken_all(&broken))
}

/// Breaks the lock in one of a resource's slots, if it is live and meant once its row has been waited for.
pub fn break_one(
    store: &Store,
    resource: &Resource,
    lock: Lock,
    is_meant: impl Fn(&Lock) -> bool,
    reason: Option<&Reason>,
) -> Result<Option<Lock>, Error> {
    let slot = lock.slot;
    let mut seen = Some(lock);
    while let Some(lock) = seen.filter(|lock| lock.is_live(Timestamp::now()) && is_meant(lock)) {
        if store.delete(resource, &lock, Wait::Yes)? == Written::Done {
            journal::note(&Change {
                reason,
                ..Change::end(Event::Broken, resource, &lock)
            })?;
            return Ok(Some(lock));
        }
        hold::look_again(store, resource)?;
        let mut holds = store.holds(resource, Slots::only(slot));
        seen = holds.pop().and_then(|hold| hold.look.lock);
    }
    Ok(None)
}

/// Why, as the log says it.
pub fn why(reason: Option<&Reason>) -> &[u8] {
    reason.map_or(&b"no reason given"[..], |reason| {
        reason.as_text().as_bytes()
    })
}

fn report(broken: &[(Resource, Lock)], reason: Option<&Reason>) -> (Level, Report) {
    let named = broken.iter().take(LOGGED);
    let names: Vec<_> = named
        .map(|(resource, lock)| text!["\"", resource.as_text(), "\" of \"", lock.owner, "\""])
        .collect();
    let line = text![
        format!("softlock broke {} locks, by role \"", broken.len()),
        pg::role_name(pg::current_role()),
        "\": ",
        list(&names, broken.len() as u64),
        ": ",
        why(reason)
    ];
    (Level::Log, Report::line(line))
}
