//! The launcher: when to sweep, and where.

use std::time::{Duration, Instant};

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder};
use pgrx::prelude::*;

use super::{process, sweeper};
use crate::error::Error;
use crate::settings;

const NAME: &str = "softlock launcher";
/// How long the postmaster waits before it starts a launcher anew that was terminated.
const RESTART: Duration = Duration::from_secs(1);

pub fn register() {
    BackgroundWorkerBuilder::new(NAME)
        .set_library("softlock")
        .set_function("softlock_launcher_main")
        .enable_spi_access()
        .set_restart_time(Some(RESTART))
        .load();
}

/// The launcher's process.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn softlock_launcher_main(_argument: pg_sys::Datum) {
    process::start_launcher();
    let mut last: Option<Instant> = None;
    let mut warned = false;
    loop {
        let due = settings::sweep_interval()
            .map(|interval| last.map_or(Instant::now(), |last| last + interval));
        if due.is_some_and(|due| due <= Instant::now()) {
            last = Some(Instant::now());
            process::report_activity(process::Activity::Running, c"sweeping expired locks");
            warned = round(warned);
            continue;
        }
        let idle = match due {
            Some(_) => c"waiting for the next sweep",
            None => c"sweeping is turned off",
        };
        process::report_activity(process::Activity::Idle, idle);
        // Any signal wakes the latch early; the loop works out anew when the next sweep is due. A
        // millisecond more makes sure that it is due when the wait has run out.
        let rest =
            due.map(|due| due.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        if !BackgroundWorker::wait_latch(rest) {
            return; // the postmaster is gone
        }
        process::reload_if_asked();
    }
}

/// Sweeps every database. Answers whether a worker could not be started; `warned` is the answer of
/// the round before, so that a lasting shortage is reported once.
fn round(warned: bool) -> bool {
    process::in_scratch_memory(|| {
        let mut shortage = false;
        for database in process::databases() {
            match sweeper::start(database) {
                // An error says that the postmaster is gone; the wait after this round ends us.
                Ok(sweeper) => drop(sweeper.wait_for_shutdown()),
                Err(_) if shortage || warned => shortage = true,
                Err(_) => {
                    shortage = true;
                    Error::NoWorkerSlot.warn();
                }
            }
        }
        shortage
    })
}
