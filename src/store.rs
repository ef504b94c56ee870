//! Every SQL statement that writes `softlock.locks`, prepared once per backend.
//!
//! The store decides nothing: a verb has looked (`pg::probe`), holds the key's lock
//! (`pg::key_lock`) and says what to write. All names are schema-qualified; operators and types are
//! those of `pg_catalog`, which every caller puts first in its search_path.

use std::cell::OnceCell;

use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};
use pgrx::pg_sys::BuiltinOid::{self, INT4OID, INT8OID, JSONBOID, OIDOID, TEXTOID, TIMESTAMPTZOID};
use pgrx::pg_sys::PgOid;
use pgrx::spi::{self, OwnedPreparedStatement, Spi, SpiTupleTable};

use crate::lock::{Claim, Decision};
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
                let types: Vec<PgOid> =
                    self.types.iter().map(|&t| PgOid::from(t.value())).collect();
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
    static INSERT: Statement = const { Statement::new(
        "INSERT INTO softlock.locks AS l
             (resource, owner, session, token, role, metadata, acquired_at, expires_at)
         VALUES ($1, $2, $3, pg_catalog.nextval('softlock.token'), $4, $5, $6, $7)
         RETURNING l.token, l.session, l.acquired_at, l.expires_at",
        &[TEXTOID, TEXTOID, TEXTOID, OIDOID, JSONBOID, TIMESTAMPTZOID, TIMESTAMPTZOID],
    ) };

    // Skips a row that another transaction has locked (a sweep in flight) instead of waiting.
    // $8 is the decision: 0 grant, 1 renew, 2 move.
    static REWRITE: Statement = const { Statement::new(
        "UPDATE softlock.locks AS l SET
             owner = $2,
             session = CASE WHEN $8 = 1 THEN l.session ELSE $3 END,
             token = CASE WHEN $8 = 1 THEN l.token ELSE pg_catalog.nextval('softlock.token') END,
             role = CASE WHEN $8 = 0 THEN $4 ELSE l.role END,
             metadata = CASE WHEN $8 = 0 THEN $5 ELSE COALESCE($5, l.metadata) END,
             acquired_at = CASE WHEN $8 = 0 THEN $6 ELSE l.acquired_at END,
             expires_at = CASE WHEN $8 = 0 THEN $7 ELSE GREATEST(l.expires_at, $7) END
         WHERE l.resource = (
             SELECT r.resource FROM softlock.locks AS r WHERE r.resource = $1
             FOR UPDATE SKIP LOCKED)
         RETURNING l.token, l.session, l.acquired_at, l.expires_at",
        &[TEXTOID, TEXTOID, TEXTOID, OIDOID, JSONBOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT4OID],
    ) };

    static LOCK_ROW: Statement = const { Statement::new(
        "SELECT 1 FROM softlock.locks AS l WHERE l.resource = $1 FOR UPDATE",
        &[TEXTOID],
    ) };

    static DELETE: Statement = const { Statement::new(
        "DELETE FROM softlock.locks AS l WHERE l.resource = $1",
        &[TEXTOID],
    ) };

    // The rows are locked, and their expiry checked again, before they are deleted; a row that is
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
    pub decision: Decision,
    pub token: i64,
    pub session: Option<String>,
    pub acquired_at: Timestamp,
    pub expires_at: Timestamp,
}

/// Inserts the row of a resource that has none.
pub fn insert(resource: &Resource, claim: &Claim, t: Timestamp) -> Written {
    INSERT
        .with(|insert| {
            insert.run(&row(resource, claim, t), |rows| {
                written(rows, Decision::Grant)
            })
        })
        .expect("an INSERT of one row returns it")
}

/// Rewrites the row of a resource as the decision says. `None`, with nothing written, when another
/// transaction has the row locked, or it is gone, or the transaction's snapshot does not see it.
pub fn rewrite(
    resource: &Resource,
    claim: &Claim,
    decision: Decision,
    t: Timestamp,
) -> Option<Written> {
    let kind = match decision {
        Decision::Grant => 0,
        Decision::Renew => 1,
        Decision::Move => 2,
        Decision::Held => unreachable!("a refusal writes nothing"),
    };
    let mut args = row(resource, claim, t);
    args.push(kind.into());
    REWRITE.with(|rewrite| rewrite.run(&args, |rows| written(rows, decision)))
}

/// Waits until no other transaction has the row locked.
pub fn lock_row(resource: &Resource) {
    LOCK_ROW.with(|lock| lock.run(&[resource.as_str().into()], |_| ()));
}

/// Deletes the row of a resource; whether there was one.
pub fn delete(resource: &Resource) -> bool {
    DELETE.with(|delete| delete.run(&[resource.as_str().into()], |rows| rows.len() == 1))
}

/// An expired lock that a sweep deleted.
#[derive(Debug, Clone)]
pub struct Expired {
    pub resource: String,
    pub owner: String,
    pub session: Option<String>,
    pub expires_at: Timestamp,
}

/// Deletes up to `max_rows` locks that had lapsed at `t`, oldest first, skipping rows that another
/// transaction has locked. Answers their number and the first `max_listed` of them.
pub fn delete_expired(t: Timestamp, max_rows: i32, max_listed: usize) -> (u64, Vec<Expired>) {
    let args = [
        TimestampWithTimeZone::from(t).into(),
        i64::from(max_rows).into(),
        (max_listed as i64).into(),
    ];
    DELETE_EXPIRED.with(|delete| {
        delete.run(&args, |rows| {
            let mut count = 0;
            let mut listed = Vec::with_capacity(rows.len());
            for row in rows {
                count = column::<i64>(row.get(5)) as u64;
                listed.push(Expired {
                    resource: column(row.get(1)),
                    owner: column(row.get(2)),
                    session: row.get(3).expect("session is text"),
                    expires_at: time(row.get(4)),
                });
            }
            (count, listed)
        })
    })
}

fn written(rows: SpiTupleTable, decision: Decision) -> Option<Written> {
    let row = rows.first();
    (!row.is_empty()).then(|| Written {
        decision,
        token: column(row.get(1)),
        session: row.get(2).expect("session is text"),
        acquired_at: time(row.get(3)),
        expires_at: time(row.get(4)),
    })
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

fn row<'a>(resource: &'a Resource, claim: &'a Claim, t: Timestamp) -> Vec<DatumWithOid<'a>> {
    let time = TimestampWithTimeZone::from;
    vec![
        resource.as_str().into(),
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
        time(t).into(),
        time(claim.ttl.after(t)).into(),
    ]
}
