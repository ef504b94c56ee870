//! Every setting: its unit, bounds and who may change it.

use std::ffi::CString;
use std::time::Duration;

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};

static SWEEP_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(300);
static SWEEP_BATCH: GucSetting<i32> = GucSetting::<i32>::new(1000);
static DEFAULT_TTL: GucSetting<i32> = GucSetting::<i32>::new(1800);
static MAX_TTL: GucSetting<i32> = GucSetting::<i32>::new(86_400);
static OWNER: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

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
    GucRegistry::define_string_guc(
        c"softlock.owner",
        c"The owner that the session acts for, as softlock_guard reads it.",
        c"Set it with SET LOCAL in the transaction that writes.",
        &OWNER,
        GucContext::Userset,
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

/// `softlock.owner`: who the session acts for.
pub fn owner() -> Option<String> {
    OWNER
        .get()
        .map(|owner| owner.to_string_lossy().into_owned())
}
