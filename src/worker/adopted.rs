//! The sweeper's second job: adopted tables, each in transactions of its own, so that what one fails of stops
//! no other.

use std::time::{Duration, Instant};

use super::{process, sweeper};
use crate::adopted::{self, Adopted, Report};
use crate::pg::sandbox::TimeLimit;
use crate::settings;
use crate::verbs::sweep::LOGGED;

/// How long a table's triggers may take for a batch, and a table in one sweep, after which the others have
/// their turn; what is left is the next sweep's.
const MOST: Duration = Duration::from_secs(60);

/// Sweeps every adopted table of the database.
pub fn sweep() {
    for table in sweeper::in_transaction(adopted::all) {
        let mut report = Report::empty(&table, LOGGED);
        let swept = process::attempt(|| sweep_table(&table, &mut report));
        sweeper::in_transaction(|| {
            // Also where it failed: what has been committed has happened.
            report.log();
            match &swept {
                Ok(()) if table.is_failing && adopted::note_recovery(table.relation)? => {
                    adopted::note_end(&table);
                }
                Ok(()) => (),
                Err(failure) => drop(adopted::note_failure(&table, failure)?),
            }
            Ok(())
        });
    }
}

fn sweep_table(table: &Adopted, report: &mut Report) {
    let deadline = Instant::now() + MOST;
    loop {
        let max_rows = settings::sweep_batch();
        let is_more = sweeper::in_transaction(|| {
            let _limit = TimeLimit::of(MOST);
            report.batch(table.relation, max_rows)
        });
        process::report_statistics();
        if !is_more || Instant::now() > deadline {
            return;
        }
        process::reload_if_asked();
    }
}
