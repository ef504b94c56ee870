//! What `pg_stat_softlock` and `pg_stat_softlock_sweep` show: counted at the decision, and not taken back
//! by a rollback. Where the library is not preloaded nothing is counted.

use std::time::Duration;

use crate::error::Error;
use crate::journal::{Event, Refusal};
use crate::pg::Timestamp;
use crate::pg::tally::{self, Tally};

pub use crate::pg::tally::{
    Row, is_launcher_alive, launcher_began, launcher_is_short_of_slots, note_launcher,
    note_next_sweep, note_shortage,
};

/// What is counted of the calls, in the order of the view's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    Grants,
    Renewals,
    Moves,
    Held,
    Contended,
    Quota,
    Releases,
    Consumes,
    ConsumeFailures,
    Breaks,
    GuardRefusals,
    Waits,
    WaitTimeouts,
    /// In microseconds.
    WaitTime,
}

/// How many there are.
pub const COUNTERS: usize = Counter::WaitTime as usize + 1;

impl Counter {
    fn of_event(event: Event) -> Option<Counter> {
        match event {
            Event::Granted => Some(Counter::Grants),
            Event::Renewed => Some(Counter::Renewals),
            Event::Moved => Some(Counter::Moves),
            Event::Released => Some(Counter::Releases),
            Event::Consumed => Some(Counter::Consumes),
            Event::Broken => Some(Counter::Breaks),
            // Nobody's doing; the sweep counts what it deletes.
            Event::Lapsed => None,
        }
    }

    fn of_refusal(refusal: Refusal) -> Counter {
        match refusal {
            Refusal::Held => Counter::Held,
            Refusal::Contended => Counter::Contended,
            Refusal::Quota => Counter::Quota,
            Refusal::ConsumeFailure => Counter::ConsumeFailures,
            Refusal::Guard => Counter::GuardRefusals,
        }
    }
}

/// Counts what has become of a lock.
pub fn count_event(event: Event) {
    if let Some(counter) = Counter::of_event(event) {
        count(counter, 1);
    }
}

/// Counts a refusal.
pub fn count_refusal(refusal: Refusal) {
    count(Counter::of_refusal(refusal), 1);
}

/// Counts a call that has waited.
pub fn count_wait(time: Duration, in_vain: bool) {
    count(Counter::Waits, 1);
    count(Counter::WaitTimeouts, in_vain.into());
    count(Counter::WaitTime, micros(time));
}

/// All that statistics cost a call: `make bench` counts what is spent in here.
#[inline(never)]
fn count(counter: Counter, amount: u64) {
    if let Some(tally) = tally::mine() {
        tally.count(counter as usize, amount);
    }
}

/// Counts what a sweep has deleted so far, and the time that took.
pub fn count_swept(locks: u64, time: Duration) {
    if let Some(tally) = tally::mine() {
        tally.swept(locks, micros(time));
    }
}

/// Counts a sweep of this database that has come to its end, having deleted so many locks.
pub fn count_sweep(locks: u64) {
    if let Some(tally) = tally::mine() {
        tally.sweep_ended(locks, Timestamp::now());
    }
}

/// Counts a sweep of a database that has failed, and keeps why.
pub fn count_failed_sweep(database: pgrx::pg_sys::Oid, message: &str) {
    if let Some(tally) = tally::of(database) {
        tally.sweep_failed(message, Timestamp::now());
    }
}

/// What has been counted, a row per database.
pub fn rows() -> Result<Vec<Row>, Error> {
    tally::rows().ok_or(Error::NoStatistics)
}

/// What is known of the sweeps of this database; `None` where nothing is counted.
pub fn of_this_database() -> Option<Row> {
    tally::mine().map(Tally::read)
}

/// Begins anew with this database.
pub fn reset() -> Result<(), Error> {
    tally::mine().map(Tally::reset).ok_or(Error::NoStatistics)
}

fn micros(time: Duration) -> u64 {
    time.as_micros().min(u64::MAX.into()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_a_counter_of_its_own() {
        use Refusal::*;
        let counters = [Held, Contended, Quota, ConsumeFailure, Guard].map(Counter::of_refusal);
        let its_own = [
            Counter::Held,
            Counter::Contended,
            Counter::Quota,
            Counter::ConsumeFailures,
            Counter::GuardRefusals,
        ];
        assert_eq!(counters, its_own);
    }

    #[test]
    fn each_event_has_a_counter_but_a_lapse_which_is_nobodys_doing() {
        use Event::*;
        let counters =
            [Granted, Renewed, Moved, Released, Consumed, Broken, Lapsed].map(Counter::of_event);
        let its_own = [
            Some(Counter::Grants),
            Some(Counter::Renewals),
            Some(Counter::Moves),
            Some(Counter::Releases),
            Some(Counter::Consumes),
            Some(Counter::Breaks),
            None,
        ];
        assert_eq!(counters, its_own);
    }
}
