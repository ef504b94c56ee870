//! The background worker, told in prose.
//!
//! The postmaster starts the **launcher** when recovery has ended, and so on a standby only after
//! promotion. The launcher is connected to no database, and waits for nothing but its latch. Every
//! `softlock.sweep_interval`, and once at its start, it begins a round (`schedule`): it reads the list
//! of databases and starts a **sweeper** in each, a few at a time, as worker slots are free (`workers`).
//! A database whose last sweep failed comes last. When no slot is free it warns, once, and asks again
//! every second.
//!
//! A sweeper enters its database, leaves at once where the extension is not installed, and otherwise
//! deletes expired locks, one batch a transaction, until none is left. Then it does the same for the
//! adopted tables (`adopted`), whatever became of the locks. It is never restarted: whatever
//! it could not do, the next round does. What goes wrong it does not log: it tells the launcher through
//! shared memory (`orders`), and the launcher names the database in the log once until a sweep there
//! has come off again (`failure`).
//!
//! Nobody waits long for a database that can't be entered or swept: a sweeper gives up a lock after
//! five seconds, that of the database included, and the launcher ends one that is not inside after
//! eight. Once inside, a sweep may take as long as there is something to delete.
//!
//! The launcher is restarted by the postmaster when it is terminated or crashes; its sweepers end with
//! it.

mod adopted;
mod failure;
mod launcher;
mod orders;
mod process;
mod schedule;
mod sweeper;
mod workers;

pub use failure::Failure;

use std::sync::atomic::{AtomicBool, Ordering};

/// Set in the postmaster, and so in every process that it starts.
static REGISTERED: AtomicBool = AtomicBool::new(false);

/// Registers the launcher when the library is preloaded; does nothing in other sessions, nor during
/// pg_upgrade, which would wait for it.
pub fn register() {
    if process::may_register() {
        orders::register();
        launcher::register();
        REGISTERED.store(true, Ordering::Relaxed);
    }
}

/// Whether this server has a launcher, hence sweeps by itself.
pub fn is_registered() -> bool {
    REGISTERED.load(Ordering::Relaxed)
}
