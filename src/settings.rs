//! Every setting: its unit, bounds and who may change it.

use std::ffi::CString;
use std::time::Duration;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

use crate::text::Text;

static SWEEP_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(300);
static SWEEP_BATCH: GucSetting<i32> = GucSetting::<i32>::new(1000);
static DEFAULT_TTL: GucSetting<i32> = GucSetting::<i32>::new(1800);
static MAX_TTL: GucSetting<i32> = GucSetting::<i32>::new(86_400);
static MAX_HOLD: GucSetting<i32> = GucSetting::<i32>::new(0);
static MAX_WAIT: GucSetting<i32> = GucSetting::<i32>::new(60);
static SERVE: GucSetting<bool> = GucSetting::<bool>::new(true);
static OWNER: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

static NOTIFY: GucSetting<Told> = GucSetting::<Told>::new(Told::Off);
static HISTORY: GucSetting<Told> = GucSetting::<Told>::new(Told::Off);
static HISTORY_RETENTION: GucSetting<i32> = GucSetting::<i32>::new(7 * 86_400);
static HISTORY_MAX_ROWS: GucSetting<i32> = GucSetting::<i32>::new(1_000_000);

/// Of which changes of locks somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
pub enum Told {
    #[name = c"off"]
    Off,
    /// Those by which an owner has a lock no more.
    #[name = c"ends"]
    Ends,
    /// Of what is taken, too.
    #[name = c"all"]
    All,
}

/// Makes the settings known to the server; called once when the library is loaded.
pub fn register() {
    GucRegistry::define_int_guc(
        c"softlock.sweep_interval",
        c"Time between the background worker's sweeps of expired locks.",
        c"Zero turns the worker's sweeping off.",
        &SWEEP_INTERVAL,
        0,
        i32::MAX / 1000,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"softlock.sweep_batch",
        c"Number of expired locks that a sweep deletes in one transaction.",
        c"",
        &SWEEP_BATCH,
        1,
        1_000_000,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"softlock.default_ttl",
        c"Time to live of a lock that is taken or renewed without one.",
        c"",
        &DEFAULT_TTL,
        1,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"softlock.max_ttl",
        c"Longest time to live that a lock can be taken or renewed with.",
        c"",
        &MAX_TTL,
        1,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"softlock.max_hold",
        c"Longest time from a lock's grant to its expiry, renewals included.",
        c"Zero sets no limit.",
        &MAX_HOLD,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"softlock.max_wait",
        c"Longest time that a call can wait for a lock.",
        c"A waiting statement keeps its snapshot, which holds up vacuum.",
        &MAX_WAIT,
        0,
        i32::MAX / 1000,
        GucContext::Suset,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_bool_guc(
        c"softlock.serve",
        c"Whether this server decides who holds what.",
        c"Off, every call of softlock's raises an error, and nothing is swept: for a router, which must not decide.",
        &SERVE,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    GucRegistry::define_string_guc(
        c"softlock.owner",
        c"The owner that the session acts for, as softlock_guard reads it.",
        c"Set it with SET LOCAL in the transaction that writes.",
        &OWNER,
        GucContext::Userset,
        GucFlags::empty(),
    );
    GucRegistry::define_enum_guc(
        c"softlock.notify",
        c"Which changes of locks are sent to who has said LISTEN softlock.",
        c"All transactions that send something queue on one lock when they commit.",
        &NOTIFY,
        GucContext::Suset,
        GucFlags::empty(),
    );
    GucRegistry::define_enum_guc(
        c"softlock.history",
        c"Which changes of locks are written to the history.",
        c"Seen through the view softlock_history.",
        &HISTORY,
        GucContext::Suset,
        GucFlags::empty(),
    );
    GucRegistry::define_int_guc(
        c"softlock.history_retention",
        c"Age from which on a sweep removes rows of the history.",
        c"",
        &HISTORY_RETENTION,
        1,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"softlock.history_max_rows",
        c"Number of rows of the history that a sweep leaves, the newest ones.",
        c"",
        &HISTORY_MAX_ROWS,
        1,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::empty(),
    );
    crate::pg::reserve_setting_prefix(c"softlock");
}

/// Time between the worker's sweeps; `None` when sweeping is turned off.
pub fn sweep_interval() -> Option<Duration> {
    match SWEEP_INTERVAL.get() {
        0 => None,
        seconds => Some(Duration::from_secs(seconds as u64)),
    }
}

/// Expired locks deleted per transaction.
pub fn sweep_batch() -> i32 {
    SWEEP_BATCH.get()
}

/// `softlock.default_ttl`, in seconds.
pub fn default_ttl_s() -> i32 {
    DEFAULT_TTL.get()
}

/// `softlock.max_ttl`, in seconds.
pub fn max_ttl_s() -> i32 {
    MAX_TTL.get()
}

/// `softlock.max_hold`, in microseconds; `None` where there is no limit.
pub fn max_hold_micros() -> Option<i64> {
    match MAX_HOLD.get() {
        0 => None,
        seconds => Some(i64::from(seconds) * 1_000_000),
    }
}

/// `softlock.max_wait`, in seconds.
pub fn max_wait_s() -> i32 {
    MAX_WAIT.get()
}

/// Whether this server decides who holds what.
pub fn serves() -> bool {
    SERVE.get()
}

/// `softlock.owner`: who the session acts for; empty where it acts for nobody.
pub fn owner() -> Text {
    OWNER
        .get()
        .map_or(Text::from(""), |owner| Text::from(owner.to_bytes()))
}

/// `softlock.notify`: what listeners are told.
pub fn notify() -> Told {
    NOTIFY.get()
}

/// `softlock.history`: what is written to the history.
pub fn history() -> Told {
    HISTORY.get()
}

/// How long the history is kept.
pub fn history_retention() -> Duration {
    Duration::from_secs(HISTORY_RETENTION.get() as u64)
}

/// How many rows of the history are kept.
pub fn history_max_rows() -> i32 {
    HISTORY_MAX_ROWS.get()
}
