//! The sweeper: one database, until nothing expired is left.

use std::panic::AssertUnwindSafe;

use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, DynamicBackgroundWorker,
    DynamicBackgroundWorkerLoadError,
};
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
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
    let mut report = sweep::Report::empty(sweep::LOGGED);
    loop {
        let max_rows = settings::sweep_batch();
        let batch = || {
            report
                .batch(max_rows)
                .map_err(ErrorReport::from)
                .unwrap_or_report()
        };
        let released = BackgroundWorker::transaction(AssertUnwindSafe(batch));
        process::report_statistics();
        if released < max_rows as u64 {
            break;
        }
        process::reload_if_asked();
    }
    report.log();
}
