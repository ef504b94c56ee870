//! When to sweep which database, and whether the log has been told. Decides only: it starts nothing
//! and reads no clock.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use pgrx::pg_sys::Oid;

/// Time between sweeps that begin at the oldest lock instead of where earlier ones have come to.
const FULL_EVERY: Duration = Duration::from_secs(3600);

#[derive(Default)]
pub struct Schedule {
    last_round: Option<Instant>,
    last_full: Option<Instant>,
    /// The databases of this round that no sweeper has been started for.
    waiting: VecDeque<Oid>,
    known: HashMap<Oid, Database>,
}

struct Database {
    /// Its last sweep failed, and the log has been told.
    failing: bool,
    /// Its next sweep is to be a full one.
    full_due: bool,
}

impl Schedule {
    /// When the next round is due; `None` while sweeping is turned off.
    pub fn due(&self, interval: Option<Duration>, now: Instant) -> Option<Instant> {
        interval.map(|interval| self.last_round.map_or(now, |last| last + interval))
    }

    /// Begins a round. Those that failed last time come last, so that they keep nobody waiting.
    pub fn begin_round(&mut self, now: Instant, databases: Vec<Oid>) {
        let full = self.last_full.is_none_or(|last| now >= last + FULL_EVERY);
        self.last_round = Some(now);
        if full {
            self.last_full = Some(now);
        }
        self.known
            .retain(|database, _| databases.contains(database));
        for &database in &databases {
            let known = self.known.entry(database).or_insert(Database {
                failing: false,
                full_due: true,
            });
            known.full_due |= full;
        }
        self.waiting = databases.into();
        let known = &self.known;
        self.waiting
            .make_contiguous()
            .sort_by_key(|database| known[database].failing);
    }

    /// Whether there are databases in this round that no sweeper has been started for.
    pub fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How many those are.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The next database to sweep, and whether fully.
    pub fn next(&self) -> Option<(Oid, bool)> {
        let &database = self.waiting.front()?;
        Some((database, self.known[&database].full_due))
    }

    /// The next database is being swept, or need not be.
    pub fn take_next(&mut self) {
        self.waiting.pop_front();
    }

    /// Forgets what is left of the round.
    pub fn end_round(&mut self) {
        self.waiting.clear();
    }

    /// A sweep came off. Answers whether that ends a streak of failures.
    pub fn swept(&mut self, database: Oid, full: bool) -> bool {
        let Some(known) = self.known.get_mut(&database) else {
            return false;
        };
        known.full_due &= !full;
        std::mem::replace(&mut known.failing, false)
    }

    /// A sweep did not come off. Answers whether that begins a streak.
    pub fn failed(&mut self, database: Oid) -> bool {
        let Some(known) = self.known.get_mut(&database) else {
            return false;
        };
        known.full_due = true;
        !std::mem::replace(&mut known.failing, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn oids(numbers: &[u32]) -> Vec<Oid> {
        numbers.iter().map(|&number| Oid::from(number)).collect()
    }

    /// Takes a whole round; every sweep comes off.
    fn round(schedule: &mut Schedule, now: Instant, databases: &[u32]) -> Vec<(u32, bool)> {
        schedule.begin_round(now, oids(databases));
        let mut taken = Vec::new();
        while let Some((database, full)) = schedule.next() {
            schedule.take_next();
            schedule.swept(database, full);
            taken.push((database.into(), full));
        }
        taken
    }

    #[test]
    fn the_first_round_is_due_at_once_and_the_others_after_the_interval() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        assert_eq!(schedule.due(None, start), None);
        assert_eq!(schedule.due(Some(MINUTE), start), Some(start));
        round(&mut schedule, start, &[1]);
        let later = start + MINUTE / 2;
        assert_eq!(schedule.due(Some(MINUTE), later), Some(start + MINUTE));
    }

    #[test]
    fn the_first_round_is_full_then_one_an_hour_and_a_new_database_gets_a_full_sweep() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        let mut at =
            |minutes, databases: &[u32]| round(&mut schedule, start + minutes * MINUTE, databases);
        assert_eq!(at(0, &[1, 2]), [(1, true), (2, true)]);
        assert_eq!(at(5, &[1, 2]), [(1, false), (2, false)]);
        assert_eq!(at(10, &[1, 3]), [(1, false), (3, true)]);
        assert_eq!(at(60, &[1, 3]), [(1, true), (3, true)]);
        assert_eq!(at(65, &[1, 3]), [(1, false), (3, false)]);
    }

    #[test]
    fn a_streak_is_told_once_and_its_database_comes_last_and_is_then_swept_fully() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        round(&mut schedule, start, &[1, 2]);
        assert!(schedule.failed(Oid::from(1)));
        assert!(!schedule.failed(Oid::from(1)));
        schedule.begin_round(start + MINUTE, oids(&[1, 2]));
        assert_eq!(schedule.next(), Some((Oid::from(2), false)));
        schedule.take_next();
        assert_eq!(schedule.next(), Some((Oid::from(1), true)));
        schedule.take_next();
        assert!(!schedule.is_behind());
        assert!(schedule.swept(Oid::from(1), true));
        assert!(!schedule.swept(Oid::from(1), true));
        assert!(schedule.failed(Oid::from(1)));
    }

    #[test]
    fn a_database_that_is_gone_is_forgotten() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        round(&mut schedule, start, &[1, 2]);
        schedule.failed(Oid::from(1));
        round(&mut schedule, start + MINUTE, &[2]);
        assert!(!schedule.failed(Oid::from(1)));
    }
}
