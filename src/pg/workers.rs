//! The server's background workers: which there are, and how many there may be.

use std::ffi::{CStr, CString};

use pgrx::pg_sys;

/// What kind of background worker a process is; `None` where it is none.
pub fn kind_of(pid: i32) -> Option<CString> {
    // SAFETY: looks into the server's list of workers, and answers with a copy of its own.
    unsafe {
        let kind = pg_sys::GetBackgroundWorkerTypeByPid(pid);
        (!kind.is_null()).then(|| CStr::from_ptr(kind).to_owned())
    }
}

/// How many background workers there may be: `max_worker_processes`.
pub fn most() -> i32 {
    // SAFETY: set before there is a backend.
    unsafe { pg_sys::max_worker_processes }
}

/// How many there are, softlock's own sweepers left out, which come and go.
pub fn others() -> i32 {
    pids()
        .filter_map(kind_of)
        .filter(|kind| kind.as_c_str() != c"softlock sweeper")
        .count() as i32
}

/// The processes of the server, as `pg_stat_activity` has them.
fn pids() -> impl Iterator<Item = i32> {
    // SAFETY: copies the server's list, unless this transaction has a copy already.
    let count = unsafe { pg_sys::pgstat_fetch_stat_numbackends() };
    // SAFETY: entries are numbered from 1 to their count; the copy lives until the transaction ends.
    (1..=count).map(|at| unsafe {
        #[cfg(any(feature = "pg13", feature = "pg14", feature = "pg15"))]
        let entry = pg_sys::pgstat_fetch_stat_local_beentry(at);
        #[cfg(not(any(feature = "pg13", feature = "pg14", feature = "pg15")))]
        let entry = pg_sys::pgstat_get_local_beentry_by_index(at);
        match entry.is_null() {
            true => 0,
            false => (*entry).backendStatus.st_procpid,
        }
    })
}
