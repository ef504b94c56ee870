//! The sweep of an adopted table, a batch at a time.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use pgrx::PgTryBuilder;
use pgrx::pg_sys;

use super::registry::Plan;
use super::statement::{self, Batch};
use super::{ALIAS, Adopted, failure, note_recovery, registry};
use crate::error::{Adoption, Error};
use crate::pg::condition;
use crate::pg::spi::{self, Kept, Parameter};
use crate::pg::{self, Level, Report as Line, Timestamp, relations, sandbox, subtransaction};
use crate::text::{Text, list, text};
use crate::verbs::sweep::{LISTED, LOGGED};
use crate::worker::Failure;

/// What one or more batches did to a table.
pub struct Report {
    pub table: Text,
    pub released: u64,
    /// The first of them: their labels, and when they lapsed.
    pub listed: Vec<(Option<Text>, Timestamp)>,
    /// Why it could not be swept.
    pub error: Option<Text>,
    room: usize,
    duration_ms: f64,
    /// What lapses later is the next sweep's.
    until: Timestamp,
    /// The expiry that the last batch came to, as the column has it: what has been cleared before that is
    /// still in the way.
    last: Option<i64>,
    prepared: Option<Prepared>,
}

/// What a sweep has looked up about a table.
struct Prepared {
    plan: Plan,
    /// As the table's owner reads it.
    condition: Option<Text>,
    at: Instant,
    /// What has been planned for all further batches like this one.
    kept: Option<(Batch, Kept)>,
}

/// Who has adopted it wrote what its owner is about to run.
fn check_entitled(plan: &Plan) -> Result<(), Error> {
    match pg::has_privileges_of(plan.adopted_by, plan.owner) {
        true => Ok(()),
        false => Err(Adoption::NotEntitled.into()),
    }
}

/// How long a sweep goes on with what it has looked up, while the table has the same owner: a change of the
/// adoption, or its end, is heeded after that.
const KNOWN_FOR: Duration = Duration::from_secs(1);

impl Prepared {
    /// `None` where the table is not adopted any more, or gone.
    fn of(relation: pg_sys::Oid) -> Result<Option<Prepared>, Error> {
        let Some(plan) = registry::plan(relation)? else {
            return Ok(None);
        };
        check_entitled(&plan)?;
        let column = || plan.expires_column.clone();
        let has_zone = match relations::base_type(plan.expires_type) {
            None => return Err(Adoption::NoColumn { column: column() }.into()),
            Some(base) => base == pg_sys::TIMESTAMPTZOID,
        };
        if has_zone != plan.time_zone.is_none() {
            return Err(Adoption::TypeChanged { column: column() }.into());
        }
        let given = plan.condition.as_ref();
        let condition = sandbox::run_as(plan.owner, || {
            given
                .map(|given| condition::canonical(relation, given, ALIAS, ALIAS))
                .transpose()
        });
        Ok(Some(Prepared {
            condition: condition.map_err(Adoption::condition)?,
            plan,
            at: Instant::now(),
            kept: None,
        }))
    }
}

impl Report {
    /// The report of a sweep that has not begun, and will name so many rows.
    pub fn empty(adopted: &Adopted, room: usize) -> Self {
        Report {
            table: adopted.name.clone(),
            released: 0,
            listed: Vec::new(),
            error: None,
            room,
            duration_ms: 0.0,
            until: Timestamp::now(),
            last: None,
            prepared: None,
        }
    }

    /// Clears up to `max_rows` lapsed rows, oldest first, beginning where the last batch ended; as the
    /// table's owner, and in a transaction or savepoint that an error ends. Answers whether there may be
    /// more.
    pub fn batch(&mut self, relation: pg_sys::Oid, max_rows: i32) -> Result<bool, Error> {
        let clock = Instant::now();
        if relations::try_lock_for_writing(relation).is_err() {
            return Err(Adoption::Locked.into());
        }
        let owner = relations::owner_of(relation);
        let known = self.prepared.take();
        let known = known.filter(|it| it.plan.owner == owner && it.at.elapsed() < KNOWN_FOR);
        let mut prepared = match known {
            Some(prepared) => prepared,
            None => match Prepared::of(relation)? {
                Some(prepared) => prepared,
                None => return Ok(false),
            },
        };
        let Prepared {
            plan,
            condition,
            kept,
            ..
        } = &mut prepared;
        check_entitled(plan)?;
        let room = self.room - self.listed.len();
        let batch = Batch {
            max_rows,
            goes_on: self.last.is_some(),
            is_naming: room > 0,
        };
        let parameters = [
            Parameter::Time(Some(self.until)),
            match plan.time_zone {
                None => Parameter::Time(self.last.map(Timestamp::from_raw)),
                Some(_) => Parameter::Local(self.last),
            },
            Parameter::Number(room as i64),
            Parameter::Text(plan.time_zone.as_ref()),
        ];
        let statement = || statement::sweep(plan, condition.as_ref(), batch);
        // Deferred triggers would be fired when the transaction ends, as whoever that is, which the server
        // does not let a restricted operation have. As the session's role: what it has deferred itself is
        // fired here.
        if let Some(constraints) = &plan.deferrable {
            spi::run(&text!["SET CONSTRAINTS ", constraints, " IMMEDIATE"], &[]);
        }
        let rows = sandbox::run_as(plan.owner, || match kept {
            Some((planned, kept)) if *planned == batch => kept.run(&parameters),
            // Many will follow one that goes on and names nothing.
            _ if batch.goes_on && !batch.is_naming => {
                let new = Kept::new(&statement(), &parameters);
                kept.insert((batch, new)).1.run(&parameters)
            }
            _ => spi::run(&statement(), &parameters),
        });
        if let Some(constraints) = &plan.deferred {
            spi::run(&text!["SET CONSTRAINTS ", constraints, " DEFERRED"], &[]);
        }
        self.prepared = Some(prepared);
        let sum = rows.first();
        let count = |at| sum.and_then(|row| row.raw(at)).unwrap_or(0);
        let (freed, seen) = (count(0), count(1));
        self.last = sum.and_then(|row| row.raw(2)).or(self.last);
        self.released += freed as u64;
        self.listed.extend(rows.iter().filter_map(|row| {
            let at = Timestamp::from_raw(row.raw(3)?);
            Some((row.text(4).cloned(), at))
        }));
        self.duration_ms += clock.elapsed().as_secs_f64() * 1000.0;
        // Where its triggers keep all of them, it would be the same ones again.
        Ok(seen >= i64::from(max_rows) && freed > 0)
    }

    /// What the log says once it has happened, as for locks: a line when something was released, and one
    /// at DEBUG1 for each of the first.
    pub fn log(&self) {
        if self.released == 0 {
            return;
        }
        let quoted = |label: &Option<Text>| match label {
            Some(label) => text!["\"", label, "\""],
            None => text!["a row"],
        };
        for (label, expired_at) in self.listed.iter().take(LOGGED) {
            let (what, when) = (quoted(label), written(*expired_at));
            let line = text![
                "softlock released ",
                what,
                " of ",
                self.table,
                ", expired at ",
                when
            ];
            pg::at_commit::log((Level::Debug1, Line::line(line)));
        }
        let labels = self.listed.iter().take(LOGGED).filter(|it| it.0.is_some());
        let labels: Vec<_> = labels.map(|(label, _)| quoted(label)).collect();
        let rows = if self.released == 1 { "row" } else { "rows" };
        let mut line = text![
            format!(
                "softlock sweep released {} expired {rows} of ",
                self.released
            ),
            self.table,
            format!(" in {:.1} ms", self.duration_ms)
        ];
        if !labels.is_empty() {
            line = text![line, ": ", list(&labels, self.released)];
        }
        pg::at_commit::log((Level::Log, Line::line(line)));
    }
}

/// An expiry; softlock's own are never infinite.
fn written(time: Timestamp) -> Vec<u8> {
    match time.raw() {
        i64::MIN => text!["-infinity"],
        _ => time.to_rfc3339(),
    }
}

/// A batch of each adopted table, by hand, each in a savepoint. What fails is in its report; not what the
/// caller has to hear of, a cancelled statement or a snapshot that is too old.
pub fn sweep_once(max_rows: i32) -> Result<Vec<Report>, Error> {
    registry::all()?
        .iter()
        .map(|adopted| {
            let mut report = Report::empty(adopted, LISTED);
            match attempt(|| report.batch(adopted.relation, max_rows)) {
                Ok(_) => {
                    report.log();
                    if adopted.is_failing && note_recovery(adopted.relation)? {
                        failure::end(adopted);
                    }
                }
                Err(failure) => {
                    report = Report::empty(adopted, LISTED);
                    report.error = Some(failure::note(adopted, &failure)?);
                }
            }
            Ok(report)
        })
        .collect()
}

/// Runs `work` in a savepoint; what it fails of is answered, and undone.
fn attempt<R>(work: impl FnOnce() -> Result<R, Error>) -> Result<R, Failure> {
    use pg_sys::panic::CaughtError;
    use pgrx::PgSqlErrorCode::{
        ERRCODE_QUERY_CANCELED, ERRCODE_T_R_SERIALIZATION_FAILURE as SERIALIZATION_FAILURE,
    };
    PgTryBuilder::new(AssertUnwindSafe(|| {
        subtransaction::attempt(work).map_err(Failure::from)
    }))
    .catch_others(|error| match &error {
        CaughtError::RustPanic { .. } => error.rethrow(),
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => {
            match report.sql_error_code() {
                ERRCODE_QUERY_CANCELED | SERIALIZATION_FAILURE => error.rethrow(),
                _ => Err(error.into()),
            }
        }
    })
    .execute()
}
