//! The launcher: starts the sweepers and looks after them. It waits for nothing but its latch.

use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder};
use pgrx::log;
use pgrx::prelude::*;

use super::failure::Failure;
use super::orders::{Order, SWEEPERS, Stage};
use super::schedule::Schedule;
use super::{process, sweeper, workers};
use crate::error::Error;
use crate::pg::Timestamp;
use crate::settings;
use crate::statistics;

const NAME: &str = "softlock launcher";
/// How long the postmaster waits before it starts a launcher anew that was terminated.
const RESTART: Duration = Duration::from_secs(1);
/// How long a sweeper may take to get into its database. It gives up waiting for a lock sooner
/// (`process::LOCK_TIMEOUT`); this is for whatever else can hold it up.
const ENTRY: Duration = Duration::from_secs(8);
/// How soon what could not be had is asked for again: a worker slot, the list of databases.
const RETRY: Duration = Duration::from_secs(1);

pub fn register() {
    BackgroundWorkerBuilder::new(NAME)
        .set_library("softlock")
        .set_function("softlock_launcher_main")
        .enable_spi_access()
        .set_restart_time(Some(RESTART))
        .load();
}

/// The launcher's process.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn softlock_launcher_main(_argument: pg_sys::Datum) {
    process::start_launcher();
    let mut launcher = Launcher::default();
    let mut memory = process::ScratchMemory::new();
    loop {
        process::reload_if_asked();
        let wake = memory.run(|| launcher.step());
        launcher.report_activity();
        // Any signal, and a sweeper's end, wakes the latch early; each step works out anew what there
        // is to do. A millisecond more makes sure that it is due when the wait has run out.
        let rest = wake
            .map(|wake| wake.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        if !BackgroundWorker::wait_latch(rest) {
            return; // the postmaster is gone
        }
    }
}

#[derive(Default)]
struct Launcher {
    schedule: Schedule,
    sweepers: [Option<Sweeper>; SWEEPERS],
    /// No worker slot was free when there was last need of one, and the log has been told.
    short_of_slots: bool,
    /// Not before then is asked again for what could not be had.
    retry: Option<Instant>,
}

/// A sweeper that was started.
struct Sweeper {
    order: Order,
    /// When it has to be in its database.
    deadline: Instant,
    /// It was not, and has been told to end.
    given_up: bool,
}

impl Launcher {
    /// Does what there is to do, without waiting, and answers when to look again at the latest.
    fn step(&mut self) -> Option<Instant> {
        let now = Instant::now();
        for at in 0..SWEEPERS {
            self.look_after(at, now);
        }
        self.retry = self.retry.filter(|&retry| retry > now);
        let interval = settings::sweep_interval();
        if interval.is_none() {
            self.schedule.end_round();
        }
        let due = self.schedule.due(interval, now);
        if self.retry.is_none() {
            if due.is_some_and(|due| due <= now) && !self.schedule.is_behind() {
                self.begin_round(now);
            }
            self.start_sweepers(now);
        }
        self.tell(interval, now);
        self.next_look(interval, now)
    }

    /// Has those who watch know of what is to come.
    fn tell(&self, interval: Option<Duration>, now: Instant) {
        let due = self.schedule.due(interval, now);
        statistics::note_next_sweep(due.map(|due| {
            let left = due.saturating_duration_since(now);
            Timestamp::now().plus_micros(left.as_micros() as i64)
        }));
        statistics::note_shortage(self.short_of_slots);
    }

    fn next_look(&self, interval: Option<Duration>, now: Instant) -> Option<Instant> {
        let sweepers = self.sweepers.iter().flatten();
        let deadlines = sweepers
            .filter(|sweeper| !sweeper.given_up && matches!(sweeper.order.stage(), Stage::Entering))
            .map(|sweeper| sweeper.deadline);
        // The rest of a round waits for a sweeper's end, or for the retry.
        let round = match (self.retry, self.schedule.is_behind()) {
            (Some(retry), _) => interval.map(|_| retry),
            (None, true) => None,
            (None, false) => self.schedule.due(interval, now),
        };
        deadlines.chain(round).min()
    }

    fn begin_round(&mut self, now: Instant) {
        match process::databases() {
            Some(databases) => {
                let databases = databases.into_iter().map(|(oid, _)| oid).collect();
                self.schedule.begin_round(now, databases);
            }
            None => self.retry = Some(now + RETRY),
        }
    }

    /// Starts as many sweepers as there are places, and slots in the server.
    fn start_sweepers(&mut self, now: Instant) {
        while let Some((database, full)) = self.schedule.next() {
            let mut running = self.sweepers.iter().flatten();
            if running.any(|sweeper| sweeper.order.database() == database) {
                // Still at it since an earlier round.
                self.schedule.take_next();
                continue;
            }
            let Some(at) = self.sweepers.iter().position(Option::is_none) else {
                return;
            };
            let Some(order) = sweeper::start(at, database, full) else {
                self.go_short_of_slots(now);
                return;
            };
            self.schedule.take_next();
            self.short_of_slots = false;
            self.sweepers[at] = Some(Sweeper {
                order,
                deadline: now + ENTRY,
                given_up: false,
            });
        }
    }

    /// Asks again soon. A sweeper that has only just been started will free its slot: no need to warn.
    fn go_short_of_slots(&mut self, now: Instant) {
        self.retry = Some(now + RETRY);
        let mut running = self.sweepers.iter().flatten();
        if running.all(|sweeper| sweeper.deadline <= now) && !self.short_of_slots {
            self.short_of_slots = true;
            Error::NoWorkerSlot.warn();
        }
    }

    /// Sees whether a sweeper has ended, and gives up one that does not get into its database.
    fn look_after(&mut self, at: usize, now: Instant) {
        let Some(sweeper) = &mut self.sweepers[at] else {
            return;
        };
        // Asked first: what it says before it ends is there once it has ended.
        let ended = workers::has_ended(at);
        let (order, given_up) = (sweeper.order, sweeper.given_up);
        let stage = order.stage();
        if ended {
            self.sweepers[at] = None;
            self.retry = None;
        } else if matches!(stage, Stage::Entering) && now >= sweeper.deadline && !given_up {
            sweeper.given_up = true;
            workers::end(at);
            self.failed(order.database(), Error::NotEntered.into());
            return;
        }
        if !ended || given_up {
            return;
        }
        match stage {
            Stage::Swept => self.swept(order.database(), order.full()),
            Stage::Failed(failure) => self.failed(order.database(), failure),
            Stage::Entering | Stage::Inside => {
                self.failed(order.database(), Error::SweeperLost.into());
            }
        }
    }

    fn swept(&mut self, database: pg_sys::Oid, full: bool) {
        if self.schedule.swept(database, full)
            && let Some(name) = name_of(database)
        {
            log!("softlock sweeps database \"{name}\" again");
        }
    }

    /// One that was dropped meanwhile, or closed to connections, is no failure.
    fn failed(&mut self, database: pg_sys::Oid, failure: Failure) {
        let Some(name) = name_of(database) else {
            return;
        };
        statistics::count_failed_sweep(database, failure.message());
        match self.schedule.failed(database) {
            true => failure.warn(&name),
            false => failure.repeat(&name),
        }
    }

    fn report_activity(&self) {
        use process::Activity::{Idle, Running};
        let running = self.sweepers.iter().flatten().count();
        let (activity, what) = if running > 0 {
            let waiting = self.schedule.waiting();
            let what = format!("sweeping expired locks: {running} under way, {waiting} to go");
            (Running, what)
        } else if settings::sweep_interval().is_none() {
            (Idle, "sweeping is turned off".into())
        } else if self.short_of_slots {
            (Idle, "waiting for a worker slot".into())
        } else {
            (Idle, "waiting for the next sweep".into())
        };
        process::report_activity(activity, &what);
    }
}

/// The name of a database that can be swept.
fn name_of(database: pg_sys::Oid) -> Option<String> {
    let mut databases = process::databases()?.into_iter();
    databases
        .find(|&(oid, _)| oid == database)
        .map(|(_, name)| name)
}
