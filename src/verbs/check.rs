//! `softlock_check`: is everything as it should be, and if not, what to do about it?
//!
//! Each check is about one thing. Where it can't be judged because of another one, it names that instead, so
//! that what is broken shows once.

use std::time::Duration;

use crate::error::Error;
use crate::pg::{self, Timestamp, altered, workers};
use crate::settings;
use crate::statistics;
use crate::store::{Patience, Store};
use crate::text::text;
use crate::worker;

/// What comes of a check.
pub enum Verdict {
    Fine,
    /// It is not as it should be; followed, the advice makes it so.
    Wrong(Vec<u8>),
    /// Another check, which is named, has to come out well first.
    Unknown(Vec<u8>),
}

use Verdict::{Fine, Unknown, Wrong};

type Check = fn() -> Result<Verdict, Error>;

/// All of them, with the names that they have in SQL.
const CHECKS: [(&str, Check); 8] = [
    (PRELOADED, preloaded),
    (LAUNCHER, launcher),
    (WORKER_SLOT, worker_slot),
    (SWEEP, sweep),
    (VERSION, version),
    (TABLE, table),
    ("lapsed", lapsed),
    (CLOCK, clock),
];

// Those that others refer to.
const PRELOADED: &str = "preloaded";
const LAUNCHER: &str = "launcher";
const WORKER_SLOT: &str = "worker_slot";
const SWEEP: &str = "sweep";
const VERSION: &str = "version";
const TABLE: &str = "table";
const CLOCK: &str = "clock";

/// How long between sweeps is usual where the worker's are turned off.
const USUAL_INTERVAL: Duration = Duration::from_secs(300);

/// Every check's name and what came of it.
pub fn check() -> Vec<(&'static str, Verdict)> {
    let judged = |(name, check): (&'static str, Check)| {
        let verdict = check().unwrap_or_else(|error| match check_of(&error) {
            its_own if its_own == name => Wrong(advice(&error)),
            another => unless(another),
        });
        (name, verdict)
    };
    CHECKS.into_iter().map(judged).collect()
}

/// The check that an error is about.
fn check_of(error: &Error) -> &'static str {
    match error {
        Error::NotInstalled | Error::VersionMismatch { .. } => VERSION,
        Error::FloorImplausible => CLOCK,
        _ => TABLE,
    }
}

fn advice(error: &Error) -> Vec<u8> {
    let report = error.report();
    let hint = match error {
        Error::TableLocked => "Look in pg_locks for who has locked it, and end that session.",
        _ => report.hint.unwrap_or_default(),
    };
    text![report.detail.unwrap_or(report.message), " ", hint]
}

fn unless(another: &str) -> Verdict {
    let advice = format!("This can't be told before the check \"{another}\" comes out well.");
    Unknown(advice.into())
}

fn wrong(advice: String) -> Result<Verdict, Error> {
    Ok(Wrong(advice.into()))
}

fn preloaded() -> Result<Verdict, Error> {
    match worker::is_registered() {
        true => Ok(Fine),
        false => Ok(Wrong(advice(&Error::NotPreloaded))),
    }
}

fn launcher() -> Result<Verdict, Error> {
    if !worker::is_registered() {
        return Ok(unless(PRELOADED));
    }
    // A standby gets its launcher when it is promoted.
    if pg::is_in_recovery() || statistics::is_launcher_alive() {
        return Ok(Fine);
    }
    match statistics::launcher_began() {
        Some(_) => wrong(
            "The launcher has ended. The server starts it again within a second; where it does not, look \
             in the log, and restart the server."
                .into(),
        ),
        None => wrong(format!(
            "The launcher was not started, as no worker slot was free for it when the server started. Set \
             max_worker_processes to {} or more, and restart the server.",
            workers::most() + 2
        )),
    }
}

fn worker_slot() -> Result<Verdict, Error> {
    if workers::others() < workers::most() && !statistics::launcher_is_short_of_slots() {
        return Ok(Fine);
    }
    let most = workers::most();
    wrong(format!(
        "All {most} worker slots are in use, so that nothing can sweep. Set max_worker_processes to {} or \
         more, and restart the server.",
        most + 2
    ))
}

fn sweep() -> Result<Verdict, Error> {
    if !worker::is_registered() {
        return Ok(unless(PRELOADED));
    }
    let Some(counted) = statistics::of_this_database().filter(|_| !pg::is_in_recovery()) else {
        return Ok(Fine);
    };
    let sweeps = counted.sweeps;
    // A sweep that could not have been made yet is not missed.
    let begun = [
        Some(counted.since),
        statistics::launcher_began(),
        sweeps.last,
    ];
    if begun.into_iter().flatten().max() >= Some(two_intervals_ago()) {
        return Ok(Fine);
    }
    if settings::sweep_interval().is_none() {
        return wrong(
            "Sweeping is turned off: set softlock.sweep_interval to 300, and reload the configuration; or \
             call softlock_sweep() every few minutes."
                .into(),
        );
    }
    for (needed, check) in [(LAUNCHER, launcher as Check), (WORKER_SLOT, worker_slot)] {
        if !matches!(check()?, Fine) {
            return Ok(unless(needed));
        }
    }
    match sweeps.last_failed >= sweeps.last && sweeps.last_failed.is_some() {
        true => wrong(
            "The last sweep of this database has failed. pg_stat_softlock_sweep.last_error says why; put \
             that right, and wait for the next one."
                .into(),
        ),
        false => wrong(
            "A sweeper does not come to its end. Look in pg_stat_activity at the one whose backend_type is \
             'softlock sweeper' for what it waits for, and end that; or end the sweeper with \
             pg_terminate_backend, and wait for the next one."
                .into(),
        ),
    }
}

fn version() -> Result<Verdict, Error> {
    altered::check_version().map(|()| Fine)
}

fn table() -> Result<Verdict, Error> {
    Store::with(Patience::Little, |_| Ok(Fine))
}

/// Nothing that has lapsed is left for longer than two sweeps.
fn lapsed() -> Result<Verdict, Error> {
    // A standby has what its primary has.
    if pg::is_in_recovery() {
        return Ok(Fine);
    }
    let Some(oldest) = Store::with(Patience::None, |store| {
        store.oldest_lapsed(two_intervals_ago())
    })?
    else {
        return Ok(Fine);
    };
    let oldest = String::from_utf8_lossy(&oldest.to_rfc3339()).into_owned();
    match sweep()? {
        Fine if worker::is_registered() => wrong(format!(
            "A lock that lapsed at {oldest} has not been swept, since a transaction that has not ended is \
             at it. softlock_pending() names it: end it with pg_terminate_backend, or with ROLLBACK PREPARED \
             where it has a gid, and wait for the next sweep."
        )),
        _ => wrong(format!(
            "A lock that lapsed at {oldest} has not been swept. Call softlock_sweep() until its \
             released_count is 0; the other checks say why nothing sweeps by itself."
        )),
    }
}

/// No lock was taken at a time that is still to come.
fn clock() -> Result<Verdict, Error> {
    let now = Timestamp::now();
    let newest = Store::with(Patience::None, |store| store.acquired_after(now))?;
    let Some(newest) = newest else {
        return Ok(Fine);
    };
    let behind = newest.micros_since(now) / 1_000_000 + 1;
    wrong(format!(
        "The server's clock is {behind} s behind the time at which a lock was taken: it has been set back, \
         and such locks last so much longer. Set the clock right, or end them: SELECT \
         softlock_break(resource) FROM softlock_active WHERE acquired_at > clock_timestamp();"
    ))
}

fn two_intervals_ago() -> Timestamp {
    let interval = settings::sweep_interval().unwrap_or(USUAL_INTERVAL);
    Timestamp::now().plus_micros(-2 * interval.as_micros() as i64)
}
