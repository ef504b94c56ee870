//! The history: a row for each change of a lock, written with the change, and pruned by the sweep.

use crate::error::Error;
use crate::journal::{Change, Event};
use crate::lock::Lock;
use crate::names::Reason;
use crate::pg::history_table::{self, Pruned};
use crate::pg::row::Row;
use crate::pg::{Level, Report, Timestamp, at_commit};
use crate::settings::{self, Told};
use crate::text::{Text, text};

/// A row of it.
pub struct Entry<'a> {
    pub at: Timestamp,
    pub event: Event,
    pub resource: &'a Text,
    /// The lock as it was when it ended, or as it has become.
    pub lock: &'a Lock,
    pub reason: Option<&'a Reason>,
    /// How long it had been held when it ended, in microseconds.
    pub held: Option<i64>,
}

/// Writes down a change, if it is to be. A sale never waits or fails because somebody has the history
/// locked: then what it lacks is said in a warning.
pub fn note(change: &Change) -> Result<(), Error> {
    let told = settings::history();
    if told == Told::Off {
        return Ok(());
    }
    let at = Timestamp::now();
    let resource = change.resource.as_text();
    if let Some(lock) = change.ended() {
        // What stays its owner's is shown as it has become, with its new token.
        let lock = match change.taken() {
            None => change.after.unwrap_or(lock),
            Some(_) => lock,
        };
        append(&Entry {
            reason: change.reason,
            ..Entry::end(at, change.event, resource, lock)
        })?;
    }
    if told == Told::All
        && let Some((event, lock)) = change.taken()
    {
        append(&Entry {
            at,
            event,
            resource,
            lock,
            reason: None,
            held: None,
        })?;
    }
    Ok(())
}

fn append(entry: &Entry) -> Result<(), Error> {
    match history_table::append(entry) {
        Err(Error::HistoryLocked) if history_table::is_first_missed() => {
            let (event, resource) = (entry.event.name(), entry.resource.clone());
            Error::HistoryMissed { event, resource }.warn();
            Ok(())
        }
        Err(Error::HistoryLocked) => Ok(()),
        appended => appended,
    }
}

/// Writes down a lock that was swept. A sweep that can't can be done later.
pub fn note_lapsed(row: &Row) -> Result<(), Error> {
    if settings::history() == Told::Off {
        return Ok(());
    }
    let (resource, lock) = (row.resource(), row.read_without_metadata());
    let now = Timestamp::now();
    history_table::append(&Entry::end(now, Event::Lapsed, &resource, &lock))
}

impl<'a> Entry<'a> {
    fn end(at: Timestamp, event: Event, resource: &'a Text, lock: &'a Lock) -> Self {
        // A lock that has lapsed was held until then, whenever that is found out.
        let until = match event {
            Event::Lapsed => lock.expires_at,
            _ => at,
        };
        Entry {
            at,
            event,
            resource,
            lock,
            reason: None,
            held: Some(until.micros_since(lock.acquired_at)),
        }
    }
}

/// What a sweep removes from the history: what is too old, and what is too much, oldest first.
#[derive(Default)]
pub struct Pruning {
    /// All up to this one are too many; known once the first batch has begun.
    too_many: Option<i64>,
    /// The last one that was looked at.
    last: Option<i64>,
    pub count: u64,
}

impl Pruning {
    /// Removes up to `max_rows`, in the current transaction, and leaves those that another transaction is
    /// removing; answers whether there may be more. Where the history is locked, or off and altered, it is
    /// left for the next time.
    pub fn batch(&mut self, max_rows: i32) -> Result<bool, Error> {
        match self.try_batch(max_rows) {
            Err(Error::HistoryLocked) => Ok(false),
            Err(Error::TableAltered { .. }) if settings::history() == Told::Off => Ok(false),
            pruned => pruned,
        }
    }

    fn try_batch(&mut self, max_rows: i32) -> Result<bool, Error> {
        let age = settings::history_retention();
        let too_old = Timestamp::now().plus_micros(-(age.as_micros() as i64));
        if self.last.is_none() {
            self.too_many = history_table::beyond(settings::history_max_rows())?;
        }
        let Pruned { count, last, more } =
            history_table::prune(self.last, self.too_many, too_old, max_rows)?;
        self.last = last.or(self.last);
        self.count += count;
        Ok(more)
    }

    /// What the log says at DEBUG1 once it has happened.
    pub fn log(&self) {
        if self.count > 0 {
            let line = text![
                "softlock pruned ",
                self.count.to_string(),
                " rows of its history"
            ];
            at_commit::log((Level::Debug1, Report::line(line)));
        }
    }
}
