//! Running other people's code: as themselves, in a security-restricted operation, as the server does it
//! for index expressions under ANALYZE.

use std::ffi::{CStr, c_int};

use pgrx::pg_sys;

use super::relations;

/// What the code finds set, whatever the session has, and what it sets is undone. What it resolves by name
/// is the server's own; it can wait for a lock, as of a row that its triggers write, for a second.
const SETTINGS: [(&CStr, &CStr); 5] = [
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"session_replication_role", c"origin"),
    (c"row_security", c"on"),
    (c"standard_conforming_strings", c"on"),
    (c"lock_timeout", c"1s"),
];

/// Runs `work` as `role`, with no way back to the session's own. An ERROR inside leaves the way back to the
/// abort of the transaction or savepoint, which must be at hand.
pub fn run_as<R>(role: pg_sys::Oid, work: impl FnOnce() -> R) -> R {
    relations::as_owner(role, || {
        // SAFETY: backend-local state: the level is ended on the way back, or by the abort.
        unsafe {
            let level = pg_sys::NewGUCNestLevel();
            for (name, value) in SETTINGS {
                pg_sys::set_config_option(
                    name.as_ptr(),
                    value.as_ptr(),
                    pg_sys::GucContext::PGC_SUSET,
                    pg_sys::GucSource::PGC_S_SESSION,
                    pg_sys::GucAction::GUC_ACTION_SAVE,
                    true,
                    0,
                    false,
                );
            }
            let result = work();
            pg_sys::AtEOXact_GUC(false, level);
            result
        }
    })
}

/// A setting of the session's, in the database's encoding.
pub fn setting(name: &CStr) -> crate::text::Text {
    // SAFETY: the setting is there; its value is copied at once.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), false, false);
        crate::text::Text::from(CStr::from_ptr(value).to_bytes())
    }
}

unsafe extern "C-unwind" {
    // Not in pgrx's bindings.
    fn enable_timeout_after(timeout: c_int, millis: c_int);
    fn disable_timeout(timeout: c_int, keep_indicator: bool);
}

/// The server's own number of the statement's time-out, which nothing arms in a background worker.
const STATEMENT_TIMEOUT: c_int = 3;

/// Has what runs cancelled when it takes too long, until this is dropped.
pub struct TimeLimit;

impl TimeLimit {
    pub fn of(time: std::time::Duration) -> Self {
        // SAFETY: the server has registered the time-out in every process that is connected to a database.
        unsafe { enable_timeout_after(STATEMENT_TIMEOUT, time.as_millis() as c_int) };
        TimeLimit
    }
}

impl Drop for TimeLimit {
    fn drop(&mut self) {
        // SAFETY: it was enabled; raises nothing.
        unsafe { disable_timeout(STATEMENT_TIMEOUT, false) };
    }
}
