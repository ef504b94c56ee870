//! `softlock_sweep`, and the same sweep for the background worker: delete what has lapsed, say so.

use std::time::Instant;

use pgrx::{debug1, log};

use crate::answer::Swept;
use crate::error::Error;
use crate::pg::{Jsonb, Timestamp};
use crate::store::{self, Lapsed};

/// Resources named in an answer.
pub const LISTED: usize = 1000;
/// Resources named in the log.
pub const LOGGED: usize = 10;

/// What one or more batches of a sweep did.
pub struct Report {
    lapsed: Lapsed,
    listed: usize,
    started: Timestamp,
    duration_ms: f64,
}

impl Report {
    /// The report of a sweep that has not begun, and will name so many resources.
    pub fn empty(listed: usize) -> Self {
        Report {
            lapsed: Lapsed::default(),
            listed,
            started: Timestamp::now(),
            duration_ms: 0.0,
        }
    }

    /// Deletes up to `max_rows` lapsed locks, oldest first, beginning where the last batch ended: what
    /// has been deleted before that is still in the way. Waits for nobody. Answers their number.
    pub fn batch(&mut self, max_rows: i32) -> Result<u64, Error> {
        let (now, clock) = (Timestamp::now(), Instant::now());
        let room = self.listed - self.lapsed.listed.len();
        let batch = store::delete_lapsed(self.lapsed.last, now, max_rows, room)?;
        self.duration_ms += clock.elapsed().as_secs_f64() * 1000.0;
        let logged = self.lapsed.listed.len();
        self.lapsed.listed.extend(batch.listed);
        for (resource, lock) in self.lapsed.listed.iter().take(LOGGED).skip(logged) {
            debug1!(
                "softlock released \"{resource}\" of owner \"{}\", session {}, expired at {}",
                lock.owner,
                lock.session
                    .as_ref()
                    .map_or("none".into(), |session| format!("\"{session}\"")),
                lock.expires_at,
            );
        }
        self.lapsed.count += batch.count;
        self.lapsed.last = batch.last.or(self.lapsed.last);
        Ok(batch.count)
    }

    /// One line in the server's log when something was released; none when there was nothing.
    pub fn log(&self) {
        if self.lapsed.count == 0 {
            return;
        }
        let named = self.lapsed.listed.iter().take(LOGGED);
        let mut names = named
            .map(|(resource, _)| format!("\"{resource}\""))
            .collect::<Vec<_>>()
            .join(", ");
        let more = self.lapsed.count.saturating_sub(LOGGED as u64);
        if more > 0 {
            names += &format!(" and {more} more");
        }
        let locks = if self.lapsed.count == 1 {
            "lock"
        } else {
            "locks"
        };
        log!(
            "softlock sweep released {} expired {locks} in {:.1} ms: {names}",
            self.lapsed.count,
            self.duration_ms
        );
    }

    /// The report as `softlock_sweep` answers it.
    pub fn answer(&self) -> Jsonb {
        Jsonb::of(&Swept {
            released_count: self.lapsed.count,
            affected: self
                .lapsed
                .listed
                .iter()
                .map(|(resource, _)| resource.as_str())
                .collect(),
            affected_truncated: self.lapsed.count > self.lapsed.listed.len() as u64,
            timestamp: self.started,
            duration_ms: (self.duration_ms * 1000.0).round() / 1000.0,
        })
    }
}
