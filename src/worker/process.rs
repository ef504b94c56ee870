//! What makes a background process behave: signals, connection, session, statistics. All of the
//! worker's FFI is here.

use std::ffi::{CStr, c_int};

use pgrx::bgworkers::{BackgroundWorker, SignalWakeFlags};
use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys;

unsafe extern "C-unwind" {
    /// The server's own SIGTERM handler. pgrx's would end the worker with code 0, after which the
    /// postmaster never restarts it, and would not interrupt a running statement.
    fn die(signal: c_int);
}

extern "C-unwind" fn ignore(_signal: c_int) {}

/// Whether this is the postmaster loading `shared_preload_libraries`, outside pg_upgrade.
pub fn may_register() -> bool {
    // SAFETY: reads process-wide flags.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress && !pg_sys::IsBinaryUpgrade }
}

/// This process's id, to be told when a worker it started ends.
pub fn my_pid() -> i32 {
    // SAFETY: reads a process-wide variable.
    unsafe { pg_sys::MyProcPid }
}

/// Makes this process the launcher: connected to no database, heeding SIGHUP and SIGTERM. A cancel
/// has nothing to cancel here and is ignored.
pub fn start_launcher() {
    handle_signals();
    on_signal(pg_sys::SIGINT as c_int, ignore);
    // SAFETY: called once, at the process's start, as the server asks.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0);
    }
    report_name(c"softlock launcher");
}

/// Makes this process a sweeper: connected to the database as the bootstrap superuser, in a session
/// hardened as autovacuum's is.
pub fn start_sweeper(database: pg_sys::Datum) {
    handle_signals();
    // SAFETY: called once, at the process's start; the argument is the oid the launcher gave.
    unsafe {
        let database = pg_sys::Oid::from(database.value() as u32);
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0);
    }
    report_name(c"softlock sweeper");
    // The database's own settings must not decide what a sweep does. Durability: a lapsed lock that
    // comes back after a crash is swept again, so nobody waits for a standby.
    for (setting, value) in [
        (c"search_path", c""),
        (c"default_transaction_isolation", c"read committed"),
        (c"default_transaction_read_only", c"off"),
        (c"default_transaction_deferrable", c"off"),
        // A deletion that a crash undoes leaves a lock that has lapsed all the same.
        (c"synchronous_commit", c"off"),
        (c"lock_timeout", c"5s"),
        (c"idle_in_transaction_session_timeout", c"0"),
    ] {
        // SAFETY: both are NUL-terminated and static; an unknown name or value raises an ERROR.
        unsafe {
            pg_sys::SetConfigOption(
                setting.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
    }
}

fn handle_signals() {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    on_signal(pg_sys::SIGTERM as c_int, die);
}

fn on_signal(signal: c_int, handler: unsafe extern "C-unwind" fn(c_int)) {
    // SAFETY: both handlers only touch what a signal handler may.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(signal, Some(handler));
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(signal, Some(handler));
    }
}

/// Reads the configuration files again when a SIGHUP has asked for it.
pub fn reload_if_asked() {
    if BackgroundWorker::sighup_received() {
        // SAFETY: outside a transaction, in the process's main loop, as the server does it.
        unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
    }
}

/// What `pg_stat_activity.state` says.
pub enum Activity {
    Idle,
    Running,
}

/// Shows in `pg_stat_activity` what the process is doing.
pub fn report_activity(activity: Activity, what: &CStr) {
    let state = match activity {
        Activity::Idle => pg_sys::BackendState::STATE_IDLE,
        Activity::Running => pg_sys::BackendState::STATE_RUNNING,
    };
    // SAFETY: copies the text into this process's status slot.
    unsafe { pg_sys::pgstat_report_activity(state, what.as_ptr()) };
}

fn report_name(name: &CStr) {
    // SAFETY: copies the text into this process's status slot.
    unsafe { pg_sys::pgstat_report_appname(name.as_ptr()) };
}

/// Sends the counts of rows written, so that statistics and autovacuum see them at once.
pub fn report_statistics() {
    // SAFETY: outside a transaction.
    unsafe { pg_sys::pgstat_report_stat(true) };
}

/// Whether the database has the extension. Inside a transaction.
pub fn has_extension() -> bool {
    // SAFETY: a catalog look-up.
    unsafe { pg_sys::get_extension_oid(c"softlock".as_ptr(), true) != pg_sys::InvalidOid }
}

/// The databases that allow connections and are not half dropped. A scan of the shared catalog, as
/// autovacuum's: without a database there is no SQL.
pub fn databases() -> Vec<pg_sys::Oid> {
    const INVALID: i32 = -2; // datconnlimit of a database whose DROP was interrupted
    let mut found = Vec::new();
    // SAFETY: the scan runs in a transaction of its own and is ended before that; each tuple is
    // read while it is the scan's current one.
    unsafe {
        pg_sys::StartTransactionCommand();
        let catalog = pg_sys::table_open(
            pg_sys::DatabaseRelationId,
            pg_sys::AccessShareLock as pg_sys::LOCKMODE,
        );
        let scan = pg_sys::table_beginscan_catalog(catalog, 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
            if tuple.is_null() {
                break;
            }
            let database = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
            if (*database).datallowconn && (*database).datconnlimit != INVALID {
                found.push((*database).oid);
            }
        }
        pg_sys::heap_endscan(scan);
        pg_sys::table_close(catalog, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
        pg_sys::CommitTransactionCommand();
    }
    found
}

/// Runs `round` in memory that is freed when it ends: the launcher lives as long as the server.
pub fn in_scratch_memory<R>(round: impl FnOnce() -> R) -> R {
    // SAFETY: nothing that `round` allocates from the server is used after it.
    unsafe { PgMemoryContexts::new("softlock sweep").switch_to(|_| round()) }
}
