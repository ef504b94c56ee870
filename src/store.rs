//! Every write on `softlock.locks`: SQL statements, prepared once per backend, for sets of rows, and
//! for what a verb has looked up (`pg::probe`) row by row the writer (`pg::writer`).
//!
//! The store decides nothing: a verb says what to write. A row is written only if it still is the one
//! that was seen, so that nothing decided on an old look is ever carried out. In the SQL all names are
//! schema-qualified; operators and types are those of `pg_catalog`, which every caller puts first in
//! its search_path.

use std::cell::OnceCell;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::pg_sys::BuiltinOid::{self, TEXTARRAYOID, TEXTOID, TIMESTAMPTZOID};
use pgrx::pg_sys::{self, PgOid};
use pgrx::spi::{self, OwnedPreparedStatement, Spi, SpiHeapTupleData, SpiTupleTable};

use crate::error::Error;
use crate::lock::{Claim, Decision, Lock};
use crate::names::Resource;
use crate::pg::Timestamp;
use crate::pg::probe::Probe;
use crate::pg::writer::Writer;

/// A statement and its plan, made at its first use.
struct Statement {
    sql: &'static str,
    types: &'static [BuiltinOid],
    /// Leaked on purpose: the plan serves until the process ends, and must not be freed in the
    /// destructors that run after the server's memory is gone.
    plan: OnceCell<&'static OwnedPreparedStatement>,
}

impl Statement {
    const fn new(sql: &'static str, types: &'static [BuiltinOid]) -> Self {
        Statement {
            sql,
            types,
            plan: OnceCell::new(),
        }
    }

    fn run<R>(&self, args: &[DatumWithOid], read: impl FnOnce(SpiTupleTable) -> R) -> R {
        // Not connect_mut and update: those draw a transaction id even when nothing is written. A
        // plan of prepare_mut runs with a fresh snapshot all the same.
        Spi::connect(|client| {
            let plan = self.plan.get_or_init(|| {
                let types: Vec<_> = self.types.iter().map(|&t| PgOid::from(t.value())).collect();
                let plan = client
                    .prepare_mut(self.sql, &types)
                    .expect("softlock's SQL is valid");
                Box::leak(Box::new(plan.keep()))
            });
            read(
                client
                    .select(*plan, None, args)
                    .expect("softlock's SQL runs"),
            )
        })
    }
}

thread_local! {
    // In byte order, so that two who lock the same rows never deadlock.
    static LOCK_ROWS: Statement = const { Statement::new(
        "SELECT l.resource, l.owner, l.session, l.token, l.role, l.acquired_at, l.expires_at
         FROM softlock.locks AS l WHERE l.resource = ANY ($1) ORDER BY l.resource FOR UPDATE",
        &[TEXTARRAYOID],
    ) };

    static LIVE_OF_OWNER: Statement = const { Statement::new(
        "SELECT l.resource, l.owner, l.session, l.token, l.role, l.acquired_at, l.expires_at
         FROM softlock.locks AS l WHERE l.owner = $1 AND l.expires_at > $2",
        &[TEXTOID, TIMESTAMPTZOID],
    ) };

    static DELETE_MANY: Statement = const { Statement::new(
        "DELETE FROM softlock.locks AS l WHERE l.resource = ANY ($1)",
        &[TEXTARRAYOID],
    ) };
}

/// A row to write: the one seen, if any, and the decision about it.
pub struct Change<'r, 's> {
    pub resource: &'r Resource,
    pub seen: Option<&'s Lock>,
    pub decision: Decision,
}

/// A row as it was written.
#[derive(Debug)]
pub struct Written<'a> {
    pub resource: &'a Resource,
    pub decision: Decision,
    pub lock: Lock,
}

/// What a sweep deleted.
#[derive(Default)]
pub struct Lapsed {
    pub count: u64,
    pub listed: Vec<(String, Lock)>,
    /// When the last of them had lapsed, if there may be more.
    pub last: Option<Timestamp>,
}

/// Writes rows as the decisions say, without waiting. `Err` with the positions of rows that are not the
/// ones seen any more, or that another transaction has locked, or that this transaction's snapshot
/// does not see; the others may have been written.
pub fn write<'r>(
    probe: &Probe,
    changes: &[Change<'r, '_>],
    claim: &Claim,
    t: Timestamp,
) -> Result<Result<Vec<Written<'r>>, Vec<usize>>, Error> {
    Writer::with(probe, |writer| {
        require_plain(writer)?;
        let mut written = Vec::with_capacity(changes.len());
        let mut missed = Vec::new();
        for (at, change) in changes.iter().enumerate() {
            let &Change {
                resource,
                seen,
                decision,
            } = change;
            let lock = claim.apply(decision, seen, t, || writer.draw_token());
            let done = match seen {
                Some(seen) => writer.replace(resource.as_str(), seen, &lock),
                None => {
                    writer.insert(resource.as_str(), &lock);
                    true
                }
            };
            match done {
                true => written.push(Written {
                    resource,
                    decision,
                    lock,
                }),
                false => missed.push(at),
            }
        }
        Ok(match missed.is_empty() {
            true => Ok(written),
            false => Err(missed),
        })
    })
}

/// Deletes a row, waiting for another transaction that has it locked; `false` when it is not the
/// one seen any more.
pub fn delete(probe: &Probe, seen: &Lock) -> Result<bool, Error> {
    Writer::with(probe, |writer| {
        require_plain(writer)?;
        Ok(writer.delete(seen))
    })
}

fn require_plain(writer: &Writer) -> Result<(), Error> {
    match writer.is_plain() {
        true => Ok(()),
        false => Err(Error::TableAltered),
    }
}

/// Locks the rows of `resources`, waiting for other transactions, and answers them as they are now.
pub fn lock_rows<'a>(resources: impl Iterator<Item = &'a Resource>) -> Vec<(String, Lock)> {
    LOCK_ROWS.with(|lock| lock.run(&[texts(resources)], |rows| rows.map(locked).collect()))
}

/// The locks of an owner that are live at `t`, whatever role took them.
pub fn live_of_owner(owner: &str, t: Timestamp) -> Vec<(String, Lock)> {
    LIVE_OF_OWNER.with(|select| {
        select.run(&[owner.into(), time_arg(t)], |rows| {
            rows.map(locked).collect()
        })
    })
}

/// Deletes rows that this transaction has locked.
pub fn delete_many<'a>(resources: impl Iterator<Item = &'a Resource>) {
    DELETE_MANY.with(|delete| delete.run(&[texts(resources)], |_| ()));
}

/// Deletes up to `max_rows` locks that lapsed from `since`, if it is given, to `until`, oldest first,
/// skipping rows that another transaction is writing; keeps the first `max_listed` of them.
pub fn delete_lapsed(
    since: Option<Timestamp>,
    until: Timestamp,
    max_rows: i32,
    max_listed: usize,
) -> Result<Lapsed, Error> {
    let mut lapsed = Lapsed::default();
    Probe::with(|probe| {
        Writer::with(probe, |writer| {
            require_plain(writer)?;
            probe.each_lapsed(since, until, |mut row| {
                if !writer.delete_if_free(row.place()) {
                    return true;
                }
                lapsed.count += 1;
                if lapsed.listed.len() < max_listed {
                    lapsed.listed.push(row.read());
                }
                let full = lapsed.count == max_rows as u64;
                if full {
                    lapsed.last = Some(row.expires_at());
                }
                !full
            });
            Ok(lapsed)
        })
    })
}

fn texts<'a>(resources: impl Iterator<Item = &'a Resource>) -> DatumWithOid<'a> {
    resources.map(Resource::as_str).collect::<Vec<_>>().into()
}

fn time_arg<'a>(t: Timestamp) -> DatumWithOid<'a> {
    TimestampWithTimeZone::from(t).into()
}

/// A row of LOCK_ROWS or LIVE_OF_OWNER, which leave metadata out.
fn locked(row: SpiHeapTupleData) -> (String, Lock) {
    let lock = Lock {
        owner: column(row.get(2)),
        session: row.get(3).expect("session is text"),
        token: column(row.get(4)),
        role: column::<pg_sys::Oid>(row.get(5)),
        metadata: None,
        acquired_at: time(row.get(6)),
        expires_at: time(row.get(7)),
        place: None,
    };
    (column(row.get(1)), lock)
}

/// A column that is NOT NULL and of the type read.
fn column<T>(value: spi::Result<Option<T>>) -> T {
    value
        .ok()
        .flatten()
        .expect("a column of softlock.locks has its type and is not null")
}

fn time(value: spi::Result<Option<TimestampWithTimeZone>>) -> Timestamp {
    Timestamp::from_raw(column(value).into_inner())
}
