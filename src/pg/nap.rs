//! Sleeping inside a statement.

use std::time::Duration;

use pgrx::pg_sys;

/// Sleeps for at most `time` (whole milliseconds, at least one), less when the process is told
/// something. A cancel, `statement_timeout` or termination raises its error at once.
pub fn nap(time: Duration) {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: waits on this process's own latch, and resets it before looking at what set it.
    unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            events as i32,
            time.as_millis().max(1) as _,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    pgrx::check_for_interrupts!();
}
