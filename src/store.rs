//! Every SQL statement on `softlock.locks`, prepared once per backend.
//!
//! The store decides nothing: a verb has looked (`pg::probe`) and says what to write. A row is
//! written only if it still is the one that was seen (same token and expiry), so that nothing
//! decided on an old look is ever carried out. All names are schema-qualified; operators and types
//! are those of `pg_catalog`, which every caller puts first in its search_path.

use std::cell::OnceCell;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::pg_sys::BuiltinOid::{
    self, INT4ARRAYOID, INT4OID, INT8ARRAYOID, INT8OID, JSONBOID, OIDOID, TEXTARRAYOID, TEXTOID,
    TIMESTAMPTZARRAYOID, TIMESTAMPTZOID,
};
use pgrx::pg_sys::{self, PgOid};
use pgrx::spi::{self, OwnedPreparedStatement, Spi, SpiHeapTupleData, SpiTupleTable};

use crate::lock::{Claim, Decision, Lock};
use crate::names::Resource;
use crate::pg::Timestamp;

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

/// `INSERT` up to its source of rows, and what it brings back.
macro_rules! insert {
    ($source:literal) => {
        concat!(
            "INSERT INTO softlock.locks AS l
                 (resource, owner, session, token, role, metadata, acquired_at, expires_at) ",
            $source,
            " RETURNING l.resource, l.token, l.session, l.acquired_at, l.expires_at"
        )
    };
}

/// `UPDATE` as a decision says: 0 grant, 1 renew, 2 move.
macro_rules! rewrite {
    ($decision:literal, $rows:literal) => {
        concat!(
            "UPDATE softlock.locks AS l SET
                 owner = $2,
                 session = CASE WHEN ",
            $decision,
            " = 1 THEN l.session ELSE $3 END,
                 token = CASE WHEN ",
            $decision,
            " = 1 THEN l.token
                              ELSE pg_catalog.nextval('softlock.token') END,
                 role = CASE WHEN ",
            $decision,
            " = 0 THEN $4 ELSE l.role END,
                 metadata = CASE WHEN ",
            $decision,
            " = 0 THEN $5
                                 ELSE COALESCE($5, l.metadata) END,
                 acquired_at = CASE WHEN ",
            $decision,
            " = 0 THEN $6 ELSE l.acquired_at END,
                 expires_at = CASE WHEN ",
            $decision,
            " = 0 THEN $7
                                   ELSE GREATEST(l.expires_at, $7) END ",
            $rows,
            " RETURNING l.resource, l.token, l.session, l.acquired_at, l.expires_at"
        )
    };
}

thread_local! {
    static INSERT: Statement = const { Statement::new(
        insert!("VALUES ($1, $2, $3, pg_catalog.nextval('softlock.token'), $4, $5, $6, $7)"),
        &[TEXTOID, TEXTOID, TEXTOID, OIDOID, JSONBOID, TIMESTAMPTZOID, TIMESTAMPTZOID],
    ) };

    static INSERT_MANY: Statement = const { Statement::new(
        insert!("SELECT r.resource, $2, $3, pg_catalog.nextval('softlock.token'), $4, $5, $6, $7
                 FROM pg_catalog.unnest($1) AS r(resource)"),
        &[TEXTARRAYOID, TEXTOID, TEXTOID, OIDOID, JSONBOID, TIMESTAMPTZOID, TIMESTAMPTZOID],
    ) };

    // SKIP LOCKED: a row that another transaction is writing is left alone, not waited for.
    static REWRITE: Statement = const { Statement::new(
        rewrite!("$8", "WHERE l.resource = (
            SELECT r.resource FROM softlock.locks AS r
            WHERE r.resource = $1 AND r.token = $9 AND r.expires_at = $10
            FOR UPDATE SKIP LOCKED)"),
        &[TEXTOID, TEXTOID, TEXTOID, OIDOID, JSONBOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
          INT4OID, INT8OID, TIMESTAMPTZOID],
    ) };

    static REWRITE_MANY: Statement = const { Statement::new(
        concat!(
            "WITH seen AS MATERIALIZED (
                 SELECT r.resource, s.decision
                 FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($8),
                                 pg_catalog.unnest($9), pg_catalog.unnest($10))
                     AS s(resource, decision, token, expires_at)
                 JOIN softlock.locks AS r ON r.resource = s.resource AND r.token = s.token
                     AND r.expires_at = s.expires_at
                 FOR UPDATE OF r SKIP LOCKED) ",
            rewrite!("s.decision", "FROM seen AS s WHERE l.resource = s.resource")
        ),
        &[TEXTARRAYOID, TEXTOID, TEXTOID, OIDOID, JSONBOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
          INT4ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID],
    ) };

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

    static DELETE: Statement = const { Statement::new(
        "DELETE FROM softlock.locks AS l
         WHERE l.resource = $1 AND l.token = $2 AND l.expires_at = $3 RETURNING 1",
        &[TEXTOID, INT8OID, TIMESTAMPTZOID],
    ) };

    static DELETE_MANY: Statement = const { Statement::new(
        "DELETE FROM softlock.locks AS l WHERE l.resource = ANY ($1)",
        &[TEXTARRAYOID],
    ) };

    // The rows are locked, and their expiry checked again, before they are deleted; one that is
    // being renewed, consumed or taken over is skipped. Only the first names are brought back.
    static DELETE_EXPIRED: Statement = const { Statement::new(
        "WITH gone AS (
             DELETE FROM softlock.locks AS l
             WHERE l.ctid = ANY (ARRAY(
                 SELECT e.ctid FROM softlock.locks AS e
                 WHERE e.expires_at <= $1 ORDER BY e.expires_at LIMIT $2
                 FOR UPDATE SKIP LOCKED))
             AND l.expires_at <= $1
             RETURNING l.resource, l.owner, l.session, l.expires_at)
         SELECT g.resource, g.owner, g.session, g.expires_at, pg_catalog.count(*) OVER ()
         FROM gone AS g ORDER BY g.expires_at, g.resource LIMIT $3",
        &[TIMESTAMPTZOID, INT8OID, INT8OID],
    ) };
}

/// A row as it was written.
#[derive(Debug)]
pub struct Written {
    pub resource: String,
    pub decision: Decision,
    pub token: i64,
    pub session: Option<String>,
    pub acquired_at: Timestamp,
    pub expires_at: Timestamp,
}

/// A row to write: the one seen, and the decision about it.
pub struct Rewrite<'a> {
    pub resource: &'a Resource,
    pub seen: &'a Lock,
    pub decision: Decision,
}

/// An expired lock that a sweep deleted.
#[derive(Debug)]
pub struct Expired {
    pub resource: String,
    pub owner: String,
    pub session: Option<String>,
    pub expires_at: Timestamp,
}

/// Inserts the row of a resource that has none.
pub fn insert(resource: &Resource, claim: &Claim, t: Timestamp) -> Written {
    let args = row(resource.as_str().into(), claim, t);
    INSERT
        .with(|insert| {
            insert.run(&args, |rows| {
                rows.map(|row| written(&row, Decision::Grant)).next()
            })
        })
        .expect("an INSERT of one row returns it")
}

/// Inserts the rows of resources that have none.
pub fn insert_many(resources: &[&Resource], claim: &Claim, t: Timestamp) -> Vec<Written> {
    let args = row(texts(resources.iter().copied()), claim, t);
    INSERT_MANY.with(|insert| {
        insert.run(&args, |rows| {
            rows.map(|row| written(&row, Decision::Grant)).collect()
        })
    })
}

/// Rewrites a row as the decision says. `None`, with nothing written, when it is not the one seen
/// any more, or another transaction has it locked, or this transaction's snapshot does not see it.
pub fn rewrite(change: &Rewrite, claim: &Claim, t: Timestamp) -> Option<Written> {
    let mut args = row(change.resource.as_str().into(), claim, t);
    args.push(code(change.decision).into());
    args.push(change.seen.token.into());
    args.push(time_arg(change.seen.expires_at));
    REWRITE.with(|rewrite| {
        rewrite.run(&args, |rows| {
            rows.map(|row| written(&row, change.decision)).next()
        })
    })
}

/// Rewrites rows as `rewrite` does, leaving out those of which it would answer `None`.
pub fn rewrite_many(changes: &[Rewrite], claim: &Claim, t: Timestamp) -> Vec<Written> {
    let mut args = row(
        texts(changes.iter().map(|change| change.resource)),
        claim,
        t,
    );
    let seen = |read: fn(&Lock) -> i64| changes.iter().map(|c| read(c.seen)).collect::<Vec<_>>();
    args.push(
        changes
            .iter()
            .map(|c| code(c.decision))
            .collect::<Vec<_>>()
            .into(),
    );
    args.push(seen(|lock| lock.token).into());
    args.push(
        changes
            .iter()
            .map(|c| TimestampWithTimeZone::from(c.seen.expires_at))
            .collect::<Vec<_>>()
            .into(),
    );
    let decisions: std::collections::HashMap<_, _> = changes
        .iter()
        .map(|c| (c.resource.as_str(), c.decision))
        .collect();
    REWRITE_MANY.with(|rewrite| {
        rewrite.run(&args, |rows| {
            rows.map(|row| {
                let mut written = written(&row, Decision::Grant);
                written.decision = decisions[written.resource.as_str()];
                written
            })
            .collect()
        })
    })
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

/// Deletes a row, waiting for another transaction that has it locked; `false` when it is not the
/// one seen any more.
pub fn delete(resource: &Resource, seen: &Lock) -> bool {
    let args = [
        resource.as_str().into(),
        seen.token.into(),
        time_arg(seen.expires_at),
    ];
    DELETE.with(|delete| delete.run(&args, |rows| !rows.is_empty()))
}

/// Deletes rows that this transaction has locked.
pub fn delete_many<'a>(resources: impl Iterator<Item = &'a Resource>) {
    DELETE_MANY.with(|delete| delete.run(&[texts(resources)], |_| ()));
}

/// Deletes up to `max_rows` locks that had lapsed at `t`, oldest first, skipping rows that another
/// transaction has locked. Answers their number and the first `max_listed` of them.
pub fn delete_expired(t: Timestamp, max_rows: i32, max_listed: usize) -> (u64, Vec<Expired>) {
    let args = [
        time_arg(t),
        i64::from(max_rows).into(),
        (max_listed as i64).into(),
    ];
    DELETE_EXPIRED.with(|delete| {
        delete.run(&args, |rows| {
            let mut count = 0;
            let listed = rows.map(|row| {
                count = column::<i64>(row.get(5)) as u64;
                Expired {
                    resource: column(row.get(1)),
                    owner: column(row.get(2)),
                    session: row.get(3).expect("session is text"),
                    expires_at: time(row.get(4)),
                }
            });
            let listed = listed.collect();
            (count, listed)
        })
    })
}

/// The decision as the statements know it.
fn code(decision: Decision) -> i32 {
    match decision {
        Decision::Grant => 0,
        Decision::Renew => 1,
        Decision::Move => 2,
        Decision::Held => unreachable!("a refusal writes nothing"),
    }
}

/// Arguments 1 to 7 of the statements that write a claim.
fn row<'a>(resources: DatumWithOid<'a>, claim: &'a Claim, t: Timestamp) -> Vec<DatumWithOid<'a>> {
    vec![
        resources,
        claim.caller.owner.as_str().into(),
        claim
            .session
            .as_ref()
            .map(|session| session.as_str())
            .into(),
        claim.caller.role.into(),
        claim
            .metadata
            .as_ref()
            .map(|metadata| metadata.as_jsonb().clone())
            .into(),
        time_arg(t),
        time_arg(claim.ttl.after(t)),
    ]
}

fn texts<'a>(resources: impl Iterator<Item = &'a Resource>) -> DatumWithOid<'a> {
    resources.map(Resource::as_str).collect::<Vec<_>>().into()
}

fn time_arg<'a>(t: Timestamp) -> DatumWithOid<'a> {
    TimestampWithTimeZone::from(t).into()
}

fn written(row: &SpiHeapTupleData, decision: Decision) -> Written {
    Written {
        resource: column(row.get(1)),
        decision,
        token: column(row.get(2)),
        session: row.get(3).expect("session is text"),
        acquired_at: time(row.get(4)),
        expires_at: time(row.get(5)),
    }
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
