//! The background worker, told in prose.
//!
//! The postmaster starts the **launcher** when recovery has ended, and so on a standby only after
//! promotion. The launcher is connected to no database. Every `softlock.sweep_interval`, and once at
//! its start, it reads the list of databases and starts a **sweeper** in each, one at a time, and
//! waits until it is gone. The sweeper leaves at once where the extension is not installed;
//! otherwise it deletes expired locks, one batch a transaction, until none is left. It is never
//! restarted: whatever it could not do, the next round does. The launcher is restarted by the
//! postmaster when it is terminated or crashes.

mod launcher;
mod process;
mod sweeper;

use std::sync::atomic::{AtomicBool, Ordering};

/// Set in the postmaster, and so in every process that it starts.
static REGISTERED: AtomicBool = AtomicBool::new(false);

/// Registers the launcher when the library is preloaded; does nothing in other sessions, nor during
/// pg_upgrade, which would wait for it.
pub fn register() {
    if process::may_register() {
        launcher::register();
        REGISTERED.store(true, Ordering::Relaxed);
    }
}

/// Whether this server has a launcher, hence sweeps by itself.
pub fn is_registered() -> bool {
    REGISTERED.load(Ordering::Relaxed)
}
