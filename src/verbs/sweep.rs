//! `softlock_sweep`, and the same sweep for the background worker: delete what has lapsed, say so.

use std::time::{Duration, Instant};

use crate::adopted;
use crate::answer;
use crate::error::Error;
use crate::history::Pruning;
use crate::journal;
use crate::pg::{self, Json, Level, Report as Line, Timestamp};
use crate::statistics;
use crate::store::{Lapsed, Patience, Store};
use crate::text::{list, text};

/// Resources named in an answer.
pub const LISTED: usize = 1000;
/// Resources named in the log.
pub const LOGGED: usize = 10;
/// What lapsed so shortly before a sweep is looked at again by the next one: a lock may lapse while it is
/// being written.
const MARGIN: Duration = Duration::from_secs(1);

/// A sweep that looked at so many versions writes down how far it came.
const WORTH_IT: u64 = 100;

/// What one or more batches of a sweep did.
pub struct Report {
    pub lapsed: Lapsed,
    listed: usize,
    pub started: Timestamp,
    pub duration_ms: f64,
    /// From where on there may be something to sweep.
    since: Option<Timestamp>,
    /// Up to where everything was swept by the last batch, if it came to the end.
    until: Option<Timestamp>,
}

impl Report {
    /// The report of a sweep that has not begun, and will name so many resources.
    pub fn empty(listed: usize) -> Self {
        Report {
            lapsed: Lapsed::default(),
            listed,
            started: Timestamp::now(),
            duration_ms: 0.0,
            since: None,
            until: None,
        }
    }

    /// Begins where the worker's sweeps have come to, instead of at the oldest lock of all: what has been
    /// deleted before that is in the way for as long as an old snapshot keeps it.
    pub fn begin_at_horizon(&mut self) -> Result<(), Error> {
        let swept = Store::with(Patience::None, Store::swept)?;
        // A clock that has been set back begins anew.
        self.since = swept.filter(|swept| *swept <= Timestamp::now());
        Ok(())
    }

    /// Remembers how far this sweep has come. To be called in a transaction after those of the batches.
    pub fn set_horizon(&self) -> Result<(), Error> {
        match self.horizon() {
            Some(horizon) => Store::with(Patience::None, |store| store.set_swept(horizon)),
            None => Ok(()),
        }
    }

    /// Up to where there is nothing left, if that is further than before by what is worth writing down.
    fn horizon(&self) -> Option<Timestamp> {
        let until = self.until?.plus_micros(-(MARGIN.as_micros() as i64));
        let horizon = self.lapsed.left.map_or(until, |left| left.min(until));
        (self.lapsed.visited >= WORTH_IT && self.since != Some(horizon)).then_some(horizon)
    }

    /// Deletes up to `max_rows` lapsed locks, oldest first, beginning where the last batch ended: what
    /// has been deleted before that is still in the way. Waits for nobody. Answers their number.
    pub fn batch(&mut self, max_rows: i32) -> Result<u64, Error> {
        let (now, clock) = (Timestamp::now(), Instant::now());
        let room = self.listed - self.lapsed.listed.len();
        let since = self.lapsed.last.or(self.since);
        let batch = Store::with(Patience::None, |store| {
            store.delete_lapsed(since, now, max_rows, room, journal::note_lapsed)
        })?;
        let elapsed = clock.elapsed();
        self.duration_ms += elapsed.as_secs_f64() * 1000.0;
        statistics::count_swept(batch.count, elapsed);
        self.until = batch.last.is_none().then_some(now);
        self.lapsed.listed.extend(batch.listed);
        self.lapsed.count += batch.count;
        self.lapsed.last = batch.last.or(self.lapsed.last);
        self.lapsed.visited += batch.visited;
        self.lapsed.left = [self.lapsed.left, batch.left].into_iter().flatten().min();
        Ok(batch.count)
    }

    /// To be called when the sweep has come to its end.
    pub fn end(&self) {
        statistics::count_sweep(self.lapsed.count);
    }

    /// What the log says once it has happened: a line when something was released, and one at DEBUG1 for
    /// each of the first; nothing when there was nothing.
    pub fn log(&self) {
        if self.lapsed.count == 0 {
            return;
        }
        let named = || self.lapsed.listed.iter().take(LOGGED);
        for (resource, lock) in named() {
            let session = match &lock.session {
                Some(session) => text!["\"", session, "\""],
                None => text!["none"],
            };
            let line = text![
                "softlock released \"",
                resource,
                "\" of owner \"",
                lock.owner,
                "\", session ",
                session,
                ", expired at ",
                lock.expires_at.to_rfc3339()
            ];
            pg::at_commit::log((Level::Debug1, Line::line(line)));
        }
        let names: Vec<_> = named()
            .map(|(resource, _)| text!["\"", resource, "\""])
            .collect();
        let locks = if self.lapsed.count == 1 {
            "lock"
        } else {
            "locks"
        };
        let released = format!(
            "softlock sweep released {} expired {locks} in {:.1} ms: ",
            self.lapsed.count, self.duration_ms
        );
        let line = text![released, list(&names, self.lapsed.count)];
        pg::at_commit::log((Level::Log, Line::line(line)));
    }
}

/// One batch of the locks, of the history and of each adopted table, by hand.
pub fn sweep(max_rows: i32) -> Result<Json, Error> {
    let mut report = Report::empty(LISTED);
    report.batch(max_rows)?;
    report.end();
    report.log();
    let mut pruning = Pruning::default();
    pruning.batch(max_rows)?;
    pruning.log();
    let adopted = adopted::sweep_once(max_rows)?;
    Ok(answer::swept(&report, &adopted))
}
