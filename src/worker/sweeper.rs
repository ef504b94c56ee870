//! The sweeper: one database, until nothing expired is left.

use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, DynamicBackgroundWorker,
    DynamicBackgroundWorkerLoadError,
};
use pgrx::prelude::*;

use super::process;
use crate::settings;
use crate::verbs::sweep;

const NAME: &str = "softlock sweeper";

/// Starts a sweeper in a database; fails when no worker slot is free.
pub fn start(
    database: pg_sys::Oid,
) -> Result<DynamicBackgroundWorker, DynamicBackgroundWorkerLoadError> {
    BackgroundWorkerBuilder::new(NAME)
        .set_library("softlock")
        .set_function("softlock_sweeper_main")
        .enable_spi_access()
        .set_restart_time(None)
        .set_argument(database.into_datum())
        .set_notify_pid(process::my_pid())
        .load_dynamic()
}

/// The sweeper's process.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn softlock_sweeper_main(database: pg_sys::Datum) {
    process::start_sweeper(database);
    if !BackgroundWorker::transaction(process::has_extension) {
        return;
    }
    process::report_activity(process::Activity::Running, c"sweeping expired locks");
    let mut report = sweep::Report::empty();
    loop {
        let max_rows = settings::sweep_batch();
        let batch = BackgroundWorker::transaction(|| sweep::batch(max_rows));
        process::report_statistics();
        let done = batch.count() < max_rows as u64;
        report.add(batch);
        if done {
            break;
        }
        process::reload_if_asked();
    }
    report.log();
}
