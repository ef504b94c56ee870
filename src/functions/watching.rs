//! The SQL functions for those who watch: statistics, and whether everything is as it should be.

use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};

use crate::error::Error;
use crate::pg::{Raw, Rows, Timestamp, text_datum, utf8_datum};
use crate::statistics::{self, Counter};
use crate::verbs::check::{self, Verdict};

/// What `pg_stat_softlock` shows: a row per database, with what has been counted of its calls since
/// `stats_reset`. Raises 55000 where the library is not preloaded.
#[pg_extern(sql = r#"
CREATE FUNCTION softlock.statistics(
    OUT datid oid, OUT grants bigint, OUT renewals bigint, OUT moves bigint, OUT held bigint,
    OUT contended bigint, OUT quota bigint, OUT releases bigint, OUT consumes bigint,
    OUT consume_failures bigint, OUT breaks bigint, OUT guard_refusals bigint, OUT waits bigint,
    OUT wait_timeouts bigint, OUT wait_time double precision, OUT stats_reset timestamptz
) RETURNS SETOF record
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#, requires = ["tables"])]
fn softlock_statistics_rows(fcinfo: pg_sys::FunctionCallInfo) -> Raw {
    Rows::of(fcinfo, |rows| {
        for row in statistics::rows()? {
            let count = |counter: Counter| (row.counters[counter as usize] as i64).into_datum();
            rows.put(|| {
                [
                    row.database.into_datum(),
                    count(Counter::Grants),
                    count(Counter::Renewals),
                    count(Counter::Moves),
                    count(Counter::Held),
                    count(Counter::Contended),
                    count(Counter::Quota),
                    count(Counter::Releases),
                    count(Counter::Consumes),
                    count(Counter::ConsumeFailures),
                    count(Counter::Breaks),
                    count(Counter::GuardRefusals),
                    count(Counter::Waits),
                    count(Counter::WaitTimeouts),
                    (row.counters[Counter::WaitTime as usize] as f64 / 1000.0).into_datum(),
                    time(Some(row.since)),
                ]
            });
        }
        Ok(())
    })
}

/// What `pg_stat_softlock_sweep` shows: a row per database, with what has been counted of its sweeps since
/// `stats_reset`. Raises 55000 where the library is not preloaded.
#[pg_extern(sql = r#"
CREATE FUNCTION softlock.sweep_statistics(
    OUT datid oid, OUT sweeps bigint, OUT swept bigint, OUT sweep_time double precision,
    OUT last_sweep timestamptz, OUT last_swept bigint, OUT failed bigint, OUT last_failed timestamptz,
    OUT last_error text, OUT next_sweep timestamptz, OUT stats_reset timestamptz
) RETURNS SETOF record
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#, requires = ["tables"])]
fn softlock_sweep_statistics_rows(fcinfo: pg_sys::FunctionCallInfo) -> Raw {
    Rows::of(fcinfo, |rows| {
        for row in statistics::rows()? {
            let sweeps = &row.sweeps;
            rows.put(|| {
                [
                    row.database.into_datum(),
                    (sweeps.count as i64).into_datum(),
                    (sweeps.swept as i64).into_datum(),
                    sweeps.time_ms.into_datum(),
                    time(sweeps.last),
                    sweeps
                        .last_swept
                        .and_then(|count| (count as i64).into_datum()),
                    (sweeps.failed as i64).into_datum(),
                    time(sweeps.last_failed),
                    sweeps.last_error.as_deref().map(utf8_datum),
                    time(sweeps.next),
                    time(Some(row.since)),
                ]
            });
        }
        Ok(())
    })
}

/// Begins to count anew what `pg_stat_softlock` and `pg_stat_softlock_sweep` show of this database. Raises
/// 55000 where the library is not preloaded.
#[pg_extern(sql = r#"
CREATE FUNCTION pg_stat_softlock_reset() RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn softlock_statistics_reset(_fcinfo: pg_sys::FunctionCallInfo) -> Raw {
    match statistics::reset() {
        Ok(()) => Raw(pg_sys::Datum::from(0)),
        Err(error) => error.raise(),
    }
}

/// Says whether everything is as it should be: a row per check, with what to do where `ok` is false. `ok` is
/// NULL where another check has to come out well first; `advice` then says which.
///
/// Raises nothing because of what it finds. Works on a hot standby, and where the library is not preloaded.
#[pg_extern(sql = r#"
CREATE FUNCTION softlock_check() RETURNS TABLE ("name" text, "ok" boolean, "advice" text)
COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn softlock_check_rows(fcinfo: pg_sys::FunctionCallInfo) -> Raw {
    Rows::of(fcinfo, |rows| {
        for (name, verdict) in check::check() {
            rows.put(|| {
                let (ok, advice) = match &verdict {
                    Verdict::Fine => (Some(true), None),
                    Verdict::Wrong(advice) => (Some(false), Some(text_datum(advice))),
                    Verdict::Unknown(advice) => (None, Some(text_datum(advice))),
                };
                [
                    Some(text_datum(name.as_bytes())),
                    ok.and_then(IntoDatum::into_datum),
                    advice,
                ]
            });
        }
        Ok::<_, Error>(())
    })
}

fn time(time: Option<Timestamp>) -> Option<pg_sys::Datum> {
    time.and_then(|time| time.raw().into_datum())
}
