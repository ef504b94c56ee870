//! What those answer that break locks.

use super::{LISTED, verdict, with_taker};
use crate::lock::{Lock, Taker};
use crate::names::Resource;
use crate::pg::{self, Json, Object, Part};

/// Whose lock was broken.
pub fn broken(resource: &Resource, lock: &Lock) -> Json {
    verdict("broken", true, "broken", resource)
        .with("owner", &lock.owner)
        .with("session", lock.session.as_ref())
        .with("role", pg::role_name(lock.role))
        .with("metadata", lock.metadata.as_ref())
        .with("acquired_at", lock.acquired_at)
        .with("expires_at", lock.expires_at)
        .into()
}

/// A lock that was broken, in short.
fn broken_lock<'a>(resource: &'a Resource, lock: &'a Lock) -> Part<'a> {
    Object::default()
        .with("resource", resource.as_text())
        .with("owner", &lock.owner)
        .with("session", lock.session.as_ref())
        .with("role", pg::role_name(lock.role))
        .with("units", i64::from(lock.units))
        .with("acquired_at", lock.acquired_at)
        .with("expires_at", lock.expires_at)
        .into()
}

/// How many were broken, and the first of them.
fn with_broken<'a>(object: Object<'a>, broken: &'a [(Resource, Lock)]) -> Object<'a> {
    let listed = broken.iter().take(LISTED);
    let locks = listed.map(|(resource, lock)| broken_lock(resource, lock));
    object
        .with("broken_count", broken.len() as i64)
        .with("locks", Part::array(locks))
}

/// The locks on a resource that several had units of.
pub fn broken_units(resource: &Resource, broken: &[(Resource, Lock)]) -> Json {
    with_broken(verdict("broken", true, "broken", resource), broken).into()
}

/// Whose locks were broken.
pub fn broken_all(broken: &[(Resource, Lock)]) -> Json {
    let answer = with_broken(Object::default(), broken);
    match broken.len() > LISTED {
        true => answer.with("locks_truncated", true).into(),
        false => answer.into(),
    }
}

/// There was nothing to break.
pub fn not_broken(resource: &Resource) -> Json {
    verdict("broken", false, "not_held", resource).into()
}

/// There was nothing to break yet: somebody is taking it.
pub fn break_contended(resource: &Resource, taker: &Taker) -> Json {
    let answer = verdict("broken", false, "contended", resource);
    with_taker(answer, Some(&taker.owner), taker.pid).into()
}
