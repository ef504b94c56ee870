//! What makes a background process behave: signals, connection, session, errors, statistics. All of
//! the worker's FFI is here, but for the handles of those it starts (`workers`).

use std::ffi::{CStr, CString, c_int};
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;

use pgrx::memcxt::PgMemoryContexts;
use pgrx::{PgTryBuilder, pg_sys};

use super::failure::Failure;
use crate::statistics;

unsafe extern "C-unwind" {
    /// The server's own SIGTERM handler. pgrx's would end the worker with code 0, after which the
    /// postmaster never restarts it, and would not interrupt a running statement.
    fn die(signal: c_int);
    /// Declared here because the one of `pg_sys` is wrapped and can't be a handler.
    fn SignalHandlerForConfigReload(signal: c_int);
}

/// How long a sweeper waits for any lock: that of the database, which it needs to enter, included.
const LOCK_TIMEOUT: &CStr = c"5s";

extern "C-unwind" fn ignore(_signal: c_int) {}

/// Whether this is the postmaster loading `shared_preload_libraries`, outside pg_upgrade.
pub fn may_register() -> bool {
    // SAFETY: reads process-wide flags.
    unsafe { pg_sys::process_shared_preload_libraries_in_progress && !pg_sys::IsBinaryUpgrade }
}

/// Makes this process the launcher: connected to no database, heeding SIGHUP and SIGTERM. A cancel
/// has nothing to cancel here and is ignored.
pub fn start_launcher() {
    on_signal(pg_sys::SIGINT as c_int, ignore);
    handle_signals();
    // SAFETY: called once, at the process's start, as the server asks.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnection(std::ptr::null(), std::ptr::null(), 0);
    }
    report_name(concat!("softlock ", env!("CARGO_PKG_VERSION"), " launcher"));
    statistics::note_launcher();
}

/// Makes this process a sweeper: connected to the database as the bootstrap superuser, in a session
/// hardened as autovacuum's is.
pub fn start_sweeper(database: pg_sys::Oid) {
    handle_signals();
    // Before it enters: the time-out holds for that too. What is set so is not changed by what the
    // database or the role has set, which must not decide what a sweep does.
    for (setting, value) in [
        (c"lock_timeout", LOCK_TIMEOUT),
        (c"statement_timeout", c"0"),
        (c"idle_in_transaction_session_timeout", c"0"),
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        (c"transaction_timeout", c"0"),
        (c"role", c"none"),
        (c"session_replication_role", c"origin"),
        (c"search_path", c""),
        (c"default_transaction_isolation", c"read committed"),
        (c"default_transaction_read_only", c"off"),
        (c"default_transaction_deferrable", c"off"),
        // A deletion that a crash undoes leaves a lock that has lapsed all the same.
        (c"synchronous_commit", c"off"),
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
    // SAFETY: called once, at the process's start, as the server asks.
    unsafe {
        pg_sys::BackgroundWorkerInitializeConnectionByOid(database, pg_sys::InvalidOid, 0);
    }
    report_name(concat!("softlock ", env!("CARGO_PKG_VERSION"), " sweeper"));
}

/// The server starts a worker with all signals blocked. What comes meanwhile is delivered as soon as
/// they are unblocked, and so to these handlers.
fn handle_signals() {
    on_signal(pg_sys::SIGHUP as c_int, SignalHandlerForConfigReload);
    on_signal(pg_sys::SIGTERM as c_int, die);
    // SAFETY: the handlers are in place.
    unsafe { pg_sys::BackgroundWorkerUnblockSignals() };
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
    // SAFETY: outside a transaction, in the process's main loop, as the server does it; the flag is
    // one that a signal handler sets.
    unsafe {
        if (&raw const pg_sys::ConfigReloadPending).read_volatile() != 0 {
            (&raw mut pg_sys::ConfigReloadPending).write_volatile(0);
            pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        }
    }
}

/// What `pg_stat_activity.state` says.
pub enum Activity {
    Idle,
    Running,
}

/// Shows in `pg_stat_activity` what the process is doing.
pub fn report_activity(activity: Activity, what: &str) {
    let what = CString::new(what).expect("a text without NUL");
    let state = match activity {
        Activity::Idle => pg_sys::BackendState::STATE_IDLE,
        Activity::Running => pg_sys::BackendState::STATE_RUNNING,
    };
    // SAFETY: copies the text into this process's status slot.
    unsafe { pg_sys::pgstat_report_activity(state, what.as_ptr()) };
}

fn report_name(name: &str) {
    let name = CString::new(name).expect("a name without NUL");
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

/// The databases that allow connections and are not half dropped, with their names; `None` while the
/// list is locked. A scan of the shared catalog, as autovacuum's: without a database there is no SQL.
pub fn databases() -> Option<Vec<(pg_sys::Oid, String)>> {
    const INVALID: i32 = -2; // datconnlimit of a database whose DROP was interrupted
    const LOCK: pg_sys::LOCKMODE = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    // SAFETY: the scan runs in a transaction of its own and is ended before that; each tuple is
    // read while it is the scan's current one. What the server's end of a transaction leaves current
    // is another memory context on 13 to 17.
    unsafe {
        let memory = pg_sys::CurrentMemoryContext;
        pg_sys::StartTransactionCommand();
        let found =
            pg_sys::ConditionalLockRelationOid(pg_sys::DatabaseRelationId, LOCK).then(|| {
                let mut found = Vec::new();
                let no_lock = pg_sys::NoLock as pg_sys::LOCKMODE;
                let catalog = pg_sys::table_open(pg_sys::DatabaseRelationId, no_lock);
                let scan = pg_sys::table_beginscan_catalog(catalog, 0, std::ptr::null_mut());
                loop {
                    let tuple =
                        pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
                    if tuple.is_null() {
                        break;
                    }
                    let database = pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_database>();
                    if (*database).datallowconn && (*database).datconnlimit != INVALID {
                        let name = CStr::from_ptr((&raw const (*database).datname.data).cast());
                        found.push(((*database).oid, name.to_string_lossy().into_owned()));
                    }
                }
                pg_sys::heap_endscan(scan);
                pg_sys::table_close(catalog, no_lock);
                found
            });
        pg_sys::CommitTransactionCommand();
        pg_sys::CurrentMemoryContext = memory;
        found
    }
}

/// Memory that is freed after every step: the launcher lives as long as the server. Made once, since
/// the name of each context that pgrx makes stays behind.
pub struct ScratchMemory(PgMemoryContexts);

impl ScratchMemory {
    pub fn new() -> Self {
        ScratchMemory(PgMemoryContexts::new("softlock launcher"))
    }

    pub fn run<R>(&mut self, step: impl FnOnce() -> R) -> R {
        // SAFETY: nothing that `step` allocates from the server is used after it.
        unsafe {
            let result = self.0.switch_to(|_| step());
            self.0.reset();
            result
        }
    }
}

/// Runs `work`; an error that it raises is answered, and its transaction undone.
pub fn attempt<R>(work: impl FnOnce() -> R) -> Result<R, Failure> {
    PgTryBuilder::new(AssertUnwindSafe(|| Ok(work())))
        .catch_others(|error| {
            // SAFETY: does nothing where there is no transaction.
            unsafe { pg_sys::AbortCurrentTransaction() };
            Err(error.into())
        })
        .execute()
}

/// Has fatal errors, which nothing can catch, given to `take` instead of the server's log.
pub fn hand_over_fatal_errors(take: fn(Failure)) {
    static TAKE: OnceLock<fn(Failure)> = OnceLock::new();
    static NEXT: OnceLock<pg_sys::emit_log_hook_type> = OnceLock::new();

    unsafe extern "C-unwind" fn hook(error: *mut pg_sys::ErrorData) {
        // SAFETY: the server hands over an error of its own, and so on to the next hook.
        unsafe {
            if (*error).elevel == pg_sys::FATAL as c_int {
                if let Some(take) = TAKE.get() {
                    take(Failure::of_server(&*error));
                }
                (*error).output_to_server = false;
            } else if let Some(Some(next)) = NEXT.get() {
                next(error);
            }
        }
    }

    TAKE.get_or_init(|| take);
    // SAFETY: this process has one thread.
    unsafe {
        NEXT.get_or_init(|| pg_sys::emit_log_hook);
        pg_sys::emit_log_hook = Some(hook);
    }
}
