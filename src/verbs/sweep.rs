//! `softlock_sweep`, and the same sweep for the background worker: delete what has lapsed, say so.

use std::time::Instant;

use pgrx::{debug1, log};

use crate::answer::Swept;
use crate::pg::{Jsonb, Timestamp};
use crate::store::{self, Expired};

/// Resources named in an answer.
const LISTED: usize = 1000;
/// Resources named in the log.
const LOGGED: usize = 10;

/// What one or more batches of a sweep did.
pub struct Report {
    count: u64,
    expired: Vec<Expired>,
    started: Timestamp,
    duration_ms: f64,
}

/// Deletes up to `max_rows` lapsed locks, oldest first. Waits for nobody.
pub fn batch(max_rows: i32) -> Report {
    let (started, clock) = (Timestamp::now(), Instant::now());
    let (count, expired) = store::delete_expired(started, max_rows, LISTED);
    for lock in expired.iter().take(LOGGED) {
        debug1!(
            "softlock released \"{}\" of owner \"{}\", session {}, expired at {}",
            lock.resource,
            lock.owner,
            lock.session
                .as_ref()
                .map_or("none".into(), |session| format!("\"{session}\"")),
            lock.expires_at,
        );
    }
    Report {
        count,
        expired,
        started,
        duration_ms: clock.elapsed().as_secs_f64() * 1000.0,
    }
}

impl Report {
    /// The report of a sweep that has not begun.
    pub fn empty() -> Self {
        Report {
            count: 0,
            expired: Vec::new(),
            started: Timestamp::now(),
            duration_ms: 0.0,
        }
    }

    /// Locks released.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds what the next batch of the same sweep did.
    pub fn add(&mut self, next: Report) {
        self.count += next.count;
        self.duration_ms += next.duration_ms;
        let room = LISTED - self.expired.len();
        self.expired.extend(next.expired.into_iter().take(room));
    }

    /// One line in the server's log when something was released; none when there was nothing.
    pub fn log(&self) {
        if self.count == 0 {
            return;
        }
        let named = self.expired.iter().take(LOGGED);
        let mut names = named
            .map(|lock| format!("\"{}\"", lock.resource))
            .collect::<Vec<_>>()
            .join(", ");
        let more = self.count.saturating_sub(LOGGED as u64);
        if more > 0 {
            names += &format!(" and {more} more");
        }
        let locks = if self.count == 1 { "lock" } else { "locks" };
        log!(
            "softlock sweep released {} expired {locks} in {:.1} ms: {names}",
            self.count,
            self.duration_ms
        );
    }

    /// The report as `softlock_sweep` answers it.
    pub fn answer(&self) -> Jsonb {
        Jsonb::of(&Swept {
            released_count: self.count,
            affected: self
                .expired
                .iter()
                .map(|lock| lock.resource.as_str())
                .collect(),
            affected_truncated: self.count > self.expired.len() as u64,
            timestamp: self.started,
            duration_ms: (self.duration_ms * 1000.0).round() / 1000.0,
        })
    }
}
