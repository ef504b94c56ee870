//! What the verbs answer. A later version may add keys; none changes its meaning.

use serde::Serialize;

use crate::lock::{Decision, Lock, Refusal};
use crate::pg::{Jsonb, Timestamp};

/// The caller has the lock.
#[derive(Serialize)]
pub struct Acquired<'a> {
    pub acquired: bool,
    pub outcome: &'static str,
    pub resource: &'a str,
    pub owner: &'a str,
    pub session: Option<&'a str>,
    pub token: i64,
    pub acquired_at: Timestamp,
    pub expires_at: Timestamp,
}

/// Another transaction is deciding about the resource.
#[derive(Serialize)]
pub struct Contended<'a> {
    pub acquired: bool,
    pub outcome: &'static str,
    pub resource: &'a str,
}

/// The holder as a person needs to see it; never the holder's session or token.
#[derive(Serialize)]
pub struct Holder<'a> {
    pub owner: &'a str,
    pub metadata: Option<&'a Jsonb>,
    pub expires_at: Timestamp,
    pub retry_after_ms: i64,
}

impl<'a> Holder<'a> {
    pub fn of(lock: &'a Lock, t: Timestamp) -> Self {
        Holder {
            owner: &lock.owner,
            metadata: lock.metadata.as_ref(),
            expires_at: lock.expires_at,
            retry_after_ms: retry_after_ms(lock, t),
        }
    }
}

/// Somebody else has the lock.
#[derive(Serialize)]
pub struct Held<'a> {
    pub acquired: bool,
    pub outcome: &'static str,
    pub resource: &'a str,
    #[serde(flatten)]
    pub holder: Holder<'a>,
}

/// The lock was prolonged.
#[derive(Serialize)]
pub struct Renewed<'a> {
    pub renewed: bool,
    pub outcome: &'static str,
    pub resource: &'a str,
    pub token: i64,
    pub expires_at: Timestamp,
}

/// The lock was not prolonged; the holder is told where there is one.
#[derive(Serialize)]
pub struct NotRenewed<'a> {
    pub renewed: bool,
    pub outcome: &'static str,
    pub resource: &'a str,
    #[serde(flatten)]
    pub holder: Option<Holder<'a>>,
}

/// Whether the lock was freed; the holder is told where somebody else has it.
#[derive(Serialize)]
pub struct Released<'a> {
    pub released: bool,
    pub outcome: &'static str,
    pub resource: &'a str,
    #[serde(flatten)]
    pub holder: Option<Holder<'a>>,
}

/// Every resource of the cart is the caller's.
#[derive(Serialize)]
pub struct CartTaken<'a> {
    pub acquired: bool,
    pub locks: Vec<CartLock<'a>>,
}

#[derive(Serialize)]
pub struct CartLock<'a> {
    pub resource: &'a str,
    pub outcome: &'static str,
    pub token: i64,
    pub expires_at: Timestamp,
}

/// None of the cart was taken.
#[derive(Serialize)]
pub struct CartRefused<'a> {
    pub acquired: bool,
    pub conflicts: Vec<CartConflict<'a>>,
}

/// Why one resource of a cart can't be had; the holder's part is there for `held` only.
#[derive(Serialize)]
pub struct CartConflict<'a> {
    resource: &'a str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<i64>,
}

impl<'a> CartConflict<'a> {
    pub fn of(resource: &'a str, holder: Option<&'a Lock>, t: Timestamp) -> Self {
        CartConflict {
            resource,
            outcome: if holder.is_some() {
                "held"
            } else {
                "contended"
            },
            owner: holder.map(|lock| lock.owner.as_str()),
            expires_at: holder.map(|lock| lock.expires_at),
            retry_after_ms: holder.map(|lock| retry_after_ms(lock, t)),
        }
    }
}

/// The locks of an owner that were freed.
#[derive(Serialize)]
pub struct ReleasedAll<'a> {
    pub released_count: usize,
    pub resources: Vec<&'a str>,
}

/// The sale may go on.
#[derive(Serialize)]
pub struct Consumed {
    pub consumed_count: usize,
}

/// Whose lock was broken.
#[derive(Serialize)]
pub struct Broken<'a> {
    pub broken: bool,
    pub outcome: &'static str,
    pub resource: &'a str,
    pub owner: &'a str,
    pub session: Option<&'a str>,
    pub role: &'a str,
    pub metadata: Option<&'a Jsonb>,
    pub acquired_at: Timestamp,
    pub expires_at: Timestamp,
}

/// There was nothing to break.
#[derive(Serialize)]
pub struct NotBroken<'a> {
    pub broken: bool,
    pub outcome: &'static str,
    pub resource: &'a str,
}

/// What a sweep did.
#[derive(Serialize)]
pub struct Swept<'a> {
    pub released_count: u64,
    pub affected: Vec<&'a str>,
    pub affected_truncated: bool,
    pub timestamp: Timestamp,
    pub duration_ms: f64,
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

/// Milliseconds until the lock lapses by itself, rounded up so that nobody comes too early.
fn retry_after_ms(lock: &Lock, t: Timestamp) -> i64 {
    (lock.expires_at.micros_since(t).max(0) + 999) / 1000
}
