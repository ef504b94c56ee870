//! What the verbs answer. A later version may add keys; none changes its meaning.

mod breaking;
mod sweeping;

use std::collections::HashMap;

use crate::ask::Ask;
use crate::cart::Cart;
use crate::lock::{Claim, Decision, Lock, Refusal};
use crate::names::Resource;
use crate::pg::{self, Json, Object, Part, Timestamp};
use crate::text::Text;
use crate::verbs::conflict::{Conflict, Conflicts};
use crate::verbs::hold::Refused;
use crate::verbs::quota::Quota;
use crate::verbs::seize::Taken;
use crate::verbs::transfer::Obstacle;

pub use breaking::{break_contended, broken, broken_all, broken_units, not_broken};
pub use sweeping::{adopted, disowned, swept};

/// What most answers begin with: whether it came off, what came of it, and of what.
fn verdict<'a>(
    verdict: &'static str,
    said: bool,
    outcome: &'static str,
    resource: &'a Resource,
) -> Object<'a> {
    Object::default()
        .with(verdict, said)
        .with("outcome", outcome)
        .with("resource", resource.as_text())
}

/// The holder as a person needs to see it; never the holder's session or token.
fn with_holder<'a>(object: Object<'a>, lock: &'a Lock, t: Timestamp) -> Object<'a> {
    object
        .with("owner", &lock.owner)
        .with("role", pg::role_name(lock.role))
        .with("metadata", lock.metadata.as_ref())
        .with("expires_at", lock.expires_at)
        .with("retry_after_ms", retry_after_ms(lock.expires_at, t))
}

/// Who is taking it, as far as that is known.
fn with_taker<'a>(object: Object<'a>, owner: Option<&'a Text>, pid: Option<i32>) -> Object<'a> {
    object.with("owner", owner).with("pid", pid.map(i64::from))
}

/// Milliseconds until a lock has lapsed by itself, rounded up so that nobody comes too early.
fn retry_after_ms(expires_at: Timestamp, t: Timestamp) -> i64 {
    (expires_at.micros_since(t).max(0) + 999) / 1000
}

/// How many units the call asks for of how many, where it is not for the only one.
fn with_units<'a>(object: Object<'a>, ask: &Ask) -> Object<'a> {
    match ask.is_exclusive() {
        true => object,
        false => object
            .with("units", i64::from(ask.units))
            .with("capacity", i64::from(ask.capacity)),
    }
}

/// That a lock lapses sooner than asked, if it does.
fn with_capped(object: Object<'_>, capped: bool) -> Object<'_> {
    match capped {
        true => object.with("capped", true),
        false => object,
    }
}

/// The caller has the lock.
pub fn acquired(ask: &Ask, claim: &Claim, taken: &Taken) -> Json {
    let answer = verdict("acquired", true, taken.decision.outcome(), ask.resource)
        .with("owner", claim.caller.owner.as_text())
        .with("session", taken.lock.session.as_ref())
        .with("token", taken.lock.token)
        .with("acquired_at", taken.lock.acquired_at)
        .with("expires_at", taken.lock.expires_at);
    with_capped(with_units(answer, ask), taken.capped).into()
}

/// The caller does not have it, and why.
pub fn refused(ask: &Ask, conflict: &Conflict, t: Timestamp) -> Json {
    let answer = verdict("acquired", false, conflict.outcome(), ask.resource);
    match conflict {
        Conflict::Held(lock) => with_holder(answer, lock, t).into(),
        conflict => with_conflict(answer, conflict, t).into(),
    }
}

/// The holder, in short.
fn with_held<'a>(object: Object<'a>, lock: &'a Lock, t: Timestamp) -> Object<'a> {
    object
        .with("owner", &lock.owner)
        .with("role", pg::role_name(lock.role))
        .with("expires_at", lock.expires_at)
        .with("retry_after_ms", retry_after_ms(lock.expires_at, t))
}

/// How many the owner has, and may have.
fn with_quota<'a>(object: Object<'a>, quota: &Quota) -> Object<'a> {
    object
        .with("held_count", quota.held as i64)
        .with("limit", i64::from(quota.limit))
}

/// What stands against a resource, in short.
fn with_conflict<'a>(answer: Object<'a>, conflict: &'a Conflict, t: Timestamp) -> Object<'a> {
    match conflict {
        Conflict::Held(lock) => with_held(answer, lock, t),
        Conflict::Short(shortage) => {
            let answer = answer
                .with("capacity", i64::from(shortage.capacity))
                .with("available", i64::from(shortage.available));
            match (&shortage.taker, &shortage.holder) {
                (Some(taker), _) => with_taker(answer, Some(&taker.owner), taker.pid),
                (None, holder) => {
                    let answer = match holder {
                        Some(lock) => answer
                            .with("owner", &lock.owner)
                            .with("role", pg::role_name(lock.role))
                            .with("metadata", lock.metadata.as_ref())
                            .with("expires_at", lock.expires_at),
                        None => answer,
                    };
                    let free_at = shortage.free_at;
                    answer.with("retry_after_ms", free_at.map(|at| retry_after_ms(at, t)))
                }
            }
        }
        Conflict::Quota(quota) => with_quota(answer, quota),
        Conflict::Contended { owner, pid } => with_taker(answer, owner.as_ref(), *pid),
    }
}

/// Every resource of the cart is the caller's; in the order asked.
pub fn cart_taken(cart: &Cart, asks: &[Ask], taken: &[Taken]) -> Json {
    let lock = |at: usize| taken_lock(&asks[at], &taken[at]);
    Json::listing(|| {
        Object::default()
            .with("acquired", true)
            .with("locks", Part::array(cart.asked().map(lock)))
    })
}

/// One of the locks that a call has taken.
pub fn taken_lock<'a>(ask: &'a Ask, taken: &'a Taken) -> Part<'a> {
    let lock = Object::default()
        .with("resource", ask.resource.as_text())
        .with("outcome", taken.decision.outcome())
        .with("token", taken.lock.token)
        .with("expires_at", taken.lock.expires_at);
    with_capped(with_units(lock, ask), taken.capped).into()
}

/// None of the cart was taken: why each resource that can't be had can't, in the order asked.
pub fn cart_refused(cart: &Cart, asks: &[Ask], conflicts: &Conflicts, t: Timestamp) -> Json {
    let by_position: HashMap<_, _> = conflicts
        .iter()
        .map(|(at, conflict)| (*at, conflict))
        .collect();
    let conflict = |at: usize| {
        let conflict = by_position.get(&at)?;
        let answer = Object::default()
            .with("resource", asks[at].resource.as_text())
            .with("outcome", conflict.outcome());
        Some(with_conflict(answer, conflict, t).into())
    };
    Json::listing(|| {
        Object::default()
            .with("acquired", false)
            .with("conflicts", Part::array(cart.asked().filter_map(conflict)))
    })
}

/// The lock was prolonged.
pub fn renewed(resource: &Resource, lock: &Lock, capped: bool) -> Json {
    let answer = verdict("renewed", true, "renewed", resource)
        .with("token", lock.token)
        .with("expires_at", lock.expires_at);
    with_capped(answer, capped).into()
}

/// A lock that was prolonged or handed over.
pub struct Prolonged {
    pub resource: Resource,
    pub token: i64,
    pub expires_at: Timestamp,
    /// It lapses sooner than asked, as nothing is held for longer.
    pub capped: bool,
}

impl<'a> From<&'a Prolonged> for Part<'a> {
    fn from(lock: &'a Prolonged) -> Part<'a> {
        let answer = Object::default()
            .with("resource", lock.resource.as_text())
            .with("token", lock.token)
            .with("expires_at", lock.expires_at);
        with_capped(answer, lock.capped).into()
    }
}

/// The locks of an owner that were prolonged, and those that had lapsed.
pub fn renewed_all(renewed: &[Prolonged], lapsed: &[Resource]) -> Json {
    let lapsed = lapsed.iter().take(LISTED).map(|r| r.as_text().into());
    Json::listing(|| {
        Object::default()
            .with("renewed_count", renewed.len() as i64)
            .with("locks", Part::array(renewed.iter().map(Part::from)))
            .with("lapsed", Part::array(lapsed))
    })
}

/// The locks are the new owner's.
pub fn transferred<'a>(locks: impl Iterator<Item = &'a Prolonged>) -> Json {
    Json::listing(|| {
        Object::default()
            .with("transferred", true)
            .with("locks", Part::array(locks.map(Part::from)))
    })
}

/// No lock was handed over, and why.
pub fn not_transferred(obstacles: &[(Resource, Obstacle)], t: Timestamp) -> Json {
    let conflicts = obstacles.iter().map(|(resource, obstacle)| {
        let answer = Object::default().with("resource", resource.as_text());
        Part::from(match obstacle {
            Obstacle::Refused(refused) => {
                let answer = answer.with("outcome", refused.refusal.outcome());
                match refused.holder() {
                    Some(lock) => with_held(answer, lock, t),
                    None => answer,
                }
            }
            Obstacle::Quota(quota) => with_quota(answer.with("outcome", "quota"), quota),
            Obstacle::Contended { owner, pid } => {
                with_taker(answer.with("outcome", "contended"), Some(owner), *pid)
            }
        })
    });
    Json::listing(|| {
        Object::default()
            .with("transferred", false)
            .with("conflicts", Part::array(conflicts))
    })
}

/// The first of a list that were to be had.
pub fn any_taken(asks: &[Ask], taken: &[(usize, Taken)]) -> Json {
    let locks = taken
        .iter()
        .map(|(at, taken)| taken_lock(&asks[*at], taken));
    Json::listing(|| {
        Object::default()
            .with("acquired", true)
            .with("locks", Part::array(locks))
    })
}

/// The lock was not prolonged; the holder is told where there is one.
pub fn not_renewed(resource: &Resource, refused: &Refused) -> Json {
    let answer = verdict("renewed", false, refused.refusal.outcome(), resource);
    with_other_holder(answer, refused)
}

/// Whether the lock was freed; the holder is told where somebody else has it.
pub fn released(resource: &Resource, outcome: &'static str, refused: Option<&Refused>) -> Json {
    let answer = verdict("released", outcome == "released", outcome, resource);
    match refused {
        Some(refused) => with_other_holder(answer, refused),
        None => answer.into(),
    }
}

fn with_other_holder(object: Object, refused: &Refused) -> Json {
    match refused.holder() {
        Some(lock) => with_holder(object, lock, refused.t).into(),
        None => object.into(),
    }
}

/// So many locks are listed in answers that could be longer.
const LISTED: usize = 1000;

/// So many resources are named that `softlock_release_all` has freed.
const RELEASED_LISTED: usize = 100_000;

/// The locks of an owner that were freed.
pub fn released_all(freed: &[Resource]) -> Json {
    let named = freed.iter().take(RELEASED_LISTED);
    let answer = Object::default()
        .with("released_count", freed.len() as i64)
        .with("resources", Part::array(named.map(|r| r.as_text().into())));
    match freed.len() > RELEASED_LISTED {
        true => answer.with("resources_truncated", true).into(),
        false => answer.into(),
    }
}

/// The sale may go on.
pub fn consumed(count: usize) -> Json {
    Object::default()
        .with("consumed_count", count as i64)
        .into()
}

impl Conflict {
    /// The outcome as it stands in answers.
    pub fn outcome(&self) -> &'static str {
        match self {
            Conflict::Held(_) => "held",
            Conflict::Short(shortage) if shortage.taker.is_none() => "held",
            Conflict::Quota(_) => "quota",
            Conflict::Short(_) | Conflict::Contended { .. } => "contended",
        }
    }
}

impl Decision {
    /// The outcome as it stands in answers.
    pub fn outcome(self) -> &'static str {
        match self {
            Decision::Grant => "granted",
            Decision::Renew => "renewed",
            Decision::Move => "moved",
            Decision::Held => "held",
        }
    }
}

impl Refusal {
    /// The outcome as it stands in answers.
    pub fn outcome(self) -> &'static str {
        match self {
            Refusal::NotHeld => "not_held",
            Refusal::Expired => "expired",
            Refusal::Held => "held",
            Refusal::StaleToken => "stale_token",
        }
    }
}
