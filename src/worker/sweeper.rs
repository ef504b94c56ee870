//! The sweeper: one database, until nothing expired is left, of the locks and of the adopted tables.

use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder};
use pgrx::prelude::*;

use super::failure::Failure;
use super::orders::Order;
use super::{adopted, process, workers};
use crate::error::Error;
use crate::history::Pruning;
use crate::settings;
use crate::verbs::sweep;

const NAME: &str = "softlock sweeper";

/// Starts a sweeper in a database, in a place where none runs; `None` when no worker slot is free.
/// `full`: its sweep is to begin at the oldest lock.
pub fn start(at: usize, database: pg_sys::Oid, full: bool) -> Option<Order> {
    let order = Order::write(at, database, full);
    let worker = BackgroundWorkerBuilder::new(NAME)
        .set_library("softlock")
        .set_function("softlock_sweeper_main")
        .enable_spi_access()
        .set_restart_time(None)
        .set_argument(Some((order.ticket() as usize).into()));
    workers::start(at, worker).then_some(order)
}

/// This process's order.
static ORDER: OnceLock<Order> = OnceLock::new();

/// The sweeper's process. Whatever goes wrong is told the launcher, which knows whether the log has
/// had it before.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn softlock_sweeper_main(ticket: pg_sys::Datum) {
    let Some(order) = Order::find(ticket.value() as u32) else {
        return; // the launcher that gave it is gone
    };
    let order = ORDER.get_or_init(|| order);
    process::hand_over_fatal_errors(|failure| {
        if let Some(order) = ORDER.get() {
            order.failed(&failure);
        }
    });
    match process::attempt(|| sweep(order)).and_then(|swept| swept) {
        Ok(()) => order.swept(),
        Err(failure) => order.failed(&failure),
    }
}

fn sweep(order: &Order) -> Result<(), Failure> {
    process::start_sweeper(order.database());
    order.entered();
    if !settings::serves() || !BackgroundWorker::transaction(process::has_extension) {
        return Ok(());
    }
    process::report_activity(process::Activity::Running, "sweeping expired locks");
    let locks = sweep_locks(order);
    process::report_activity(process::Activity::Running, "sweeping adopted tables");
    let adopted = process::attempt(adopted::sweep);
    locks.and(adopted)
}

fn sweep_locks(order: &Order) -> Result<(), Failure> {
    let mut report = sweep::Report::empty(sweep::LOGGED);
    let swept = process::attempt(|| {
        if !order.full() {
            in_transaction(|| report.begin_at_horizon());
        }
        sweep_all(&mut report);
    });
    // Also where it failed: what has been committed has happened.
    BackgroundWorker::transaction(AssertUnwindSafe(|| report.log()));
    swept?;
    process::attempt(|| in_transaction(|| report.set_horizon()))?;
    report.end();
    process::attempt(prune_history)
}

fn prune_history() {
    let mut pruning = Pruning::default();
    while in_transaction(|| pruning.batch(settings::sweep_batch())) {
        process::report_statistics();
        process::reload_if_asked();
    }
    BackgroundWorker::transaction(AssertUnwindSafe(|| pruning.log()));
    process::report_statistics();
}

fn sweep_all(report: &mut sweep::Report) {
    loop {
        let max_rows = settings::sweep_batch();
        let released = in_transaction(|| report.batch(max_rows));
        process::report_statistics();
        report_progress(report);
        if released < max_rows as u64 {
            return;
        }
        process::reload_if_asked();
    }
}

fn report_progress(report: &sweep::Report) {
    let released = report.lapsed.count;
    process::report_activity(
        process::Activity::Running,
        &format!("sweeping expired locks, {released} released"),
    );
}

/// Runs `work` in a transaction of its own; what it fails of is raised, for `attempt` to catch.
pub fn in_transaction<R>(work: impl FnOnce() -> Result<R, Error>) -> R {
    BackgroundWorker::transaction(AssertUnwindSafe(|| match work() {
        Ok(done) => done,
        Err(error) => Failure::from(error).raise(),
    }))
}
