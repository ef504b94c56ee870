//! What the verbs answer. A later version may add keys; none changes its meaning.

use serde::Serialize;

use crate::lock::{Lock, Refusal};
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

/// What a sweep did.
#[derive(Serialize)]
pub struct Swept<'a> {
    pub released_count: u64,
    pub affected: Vec<&'a str>,
    pub affected_truncated: bool,
    pub timestamp: Timestamp,
    pub duration_ms: f64,
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
