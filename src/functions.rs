//! The SQL functions: parse the arguments, call the verb. Comments and privileges are
//! in `sql/functions.sql`.

// Errors end the statement; a box would only add a line to every function.
#![allow(clippy::result_large_err)]

use pgrx::datum::{Array, Interval, TimestampWithTimeZone};
use pgrx::heap_tuple::PgHeapTuple;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{AllocatedByPostgres, PgTriggerOperation};

use crate::cart::Cart;
use crate::error::Error;
use crate::lock::{Caller, Claim};
use crate::names::{self, Metadata, Owner, Reason, Resource, Session, Ttl};
use crate::pg::{self, Jsonb};
use crate::settings;
use crate::verbs::{
    acquire, acquire_many, breaking, consume, guard, release, release_all, renew, status, sweep,
};
use crate::worker;

/// Takes a resource for an owner, prolongs the owner's hold on it, or says who has it.
///
/// * `resource`: what to lock, 1 to 1024 bytes
/// * `owner`: who is to hold it, 1 to 256 bytes
/// * `ttl`: time to live; NULL means `softlock.default_ttl`; positive, at most `softlock.max_ttl`
/// * `session`: groups the owner's locks, as a cart id; 1 to 256 bytes or NULL
/// * `metadata`: what others see about the hold: a JSON object of at most 8 KiB, or NULL
/// * `wait`: how long to try, at most a day; zero answers at once and never waits for anybody
///
/// Answers `{"acquired": true, "outcome": "granted" | "renewed" | "moved", …}` or
/// `{"acquired": false, "outcome": "held" | "contended", …}`. Errors: 22004 and 22023 for bad
/// arguments, 25006 in a read-only transaction or on a standby, 0A000 for a `wait` above READ
/// COMMITTED, 40001 above READ COMMITTED as any statement.
#[pg_extern(security_definer)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::too_many_arguments)]
fn softlock_acquire(
    resource: Option<&str>,
    owner: Option<&str>,
    ttl: default!(Option<Interval>, "NULL"),
    session: default!(Option<&str>, "NULL"),
    metadata: default!(Option<Jsonb>, "NULL"),
    wait: default!(Option<Interval>, "'0'"),
) -> Result<Jsonb, ErrorReport> {
    let resource = Resource::parse(resource)?;
    let claim = claim(owner, ttl, session, metadata)?;
    let wait = names::wait(wait)?;
    if !wait.is_zero() && pg::uses_transaction_snapshot() {
        return Err(Error::WaitIsolation.into());
    }
    pg::require_writable(c"softlock_acquire()");
    Ok(acquire::acquire(&resource, &claim, wait)?)
}

/// Takes a whole cart for an owner, all or nothing; never waits.
///
/// * `resources`: at most 1000; duplicates count once; an empty array is an empty cart
/// * the rest as for `softlock_acquire`
///
/// Answers `{"acquired": true, "locks": [{"resource", "outcome", "token", "expires_at"}, …]}` in the
/// order asked, or `{"acquired": false, "conflicts": [{"resource", "outcome", "owner",
/// "expires_at", "retry_after_ms"}, …]}` with every conflict. Errors: as `softlock_acquire`, and
/// 54000 for too many resources.
#[pg_extern(security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn softlock_acquire_many(
    resources: Option<Array<&str>>,
    owner: Option<&str>,
    ttl: default!(Option<Interval>, "NULL"),
    session: default!(Option<&str>, "NULL"),
    metadata: default!(Option<Jsonb>, "NULL"),
) -> Result<Jsonb, ErrorReport> {
    let cart = Cart::parse(
        resources.as_ref().map(Array::iter),
        None::<std::iter::Empty<_>>,
    )?;
    let claim = claim(owner, ttl, session, metadata)?;
    pg::require_writable(c"softlock_acquire_many()");
    Ok(acquire_many::acquire_many(&cart, &claim)?)
}

/// Prolongs the caller's live lock; never shortens it.
///
/// * `ttl`: time to live from now; NULL means `softlock.default_ttl`
/// * `token`: when given, it must be the lock's token
///
/// Answers `{"renewed": true, …}`, or `{"renewed": false, "outcome": "not_held" | "expired" |
/// "held" | "stale_token", …}`. Waits for the caller's own transaction in another connection.
#[pg_extern(security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn softlock_renew(
    resource: Option<&str>,
    owner: Option<&str>,
    ttl: default!(Option<Interval>, "NULL"),
    token: default!(Option<i64>, "NULL"),
) -> Result<Jsonb, ErrorReport> {
    let resource = Resource::parse(resource)?;
    let claim = claim(owner, ttl, None, None)?;
    pg::require_writable(c"softlock_renew()");
    Ok(renew::renew(&resource, &claim, token)?)
}

/// Frees the caller's live lock; asking again is harmless.
///
/// * `token`: when given, it must be the lock's token
///
/// Answers `{"released": true, …}`, or `{"released": false, "outcome": "not_held" | "expired" |
/// "held" | "stale_token", …}`. Waits for the caller's own transaction in another connection.
#[pg_extern(security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn softlock_release(
    resource: Option<&str>,
    owner: Option<&str>,
    token: default!(Option<i64>, "NULL"),
) -> Result<Jsonb, ErrorReport> {
    let resource = Resource::parse(resource)?;
    let caller = Caller::new(Owner::parse(owner)?);
    pg::require_writable(c"softlock_release()");
    Ok(release::release(&resource, &caller, token)?)
}

/// Frees the caller's live locks, or those of one of its sessions, in one call.
///
/// * `session`: only this session's locks; NULL means all of the owner's
///
/// Answers `{"released_count": n, "resources": […]}` in byte order. Locks of the same owner taken in
/// a role that the caller does not act for stay.
#[pg_extern(security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn softlock_release_all(
    owner: Option<&str>,
    session: default!(Option<&str>, "NULL"),
) -> Result<Jsonb, ErrorReport> {
    let caller = Caller::new(Owner::parse(owner)?);
    let session = Session::parse(session)?;
    pg::require_writable(c"softlock_release_all()");
    Ok(release_all::release_all(&caller, session.as_ref())?)
}

/// Ends the caller's holds in the transaction that sells, or raises an error so that it can't.
///
/// * `resources`: at most 1000; duplicates count once
/// * `tokens`: when given, one per resource, which must be the locks' tokens
///
/// Answers `{"consumed_count": n}`. Raises 55P03 when any resource is not the caller's live lock,
/// naming each in DETAIL with `not_held`, `expired`, `held` or `stale_token`. Until the transaction
/// commits others still see the locks as held; a rollback brings them back.
#[pg_extern(security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn softlock_consume(
    resources: Option<Array<&str>>,
    owner: Option<&str>,
    tokens: default!(Option<Array<i64>>, "NULL"),
) -> Result<Jsonb, ErrorReport> {
    let cart = Cart::parse(
        resources.as_ref().map(Array::iter),
        tokens.as_ref().map(Array::iter),
    )?;
    let caller = Caller::new(Owner::parse(owner)?);
    pg::require_writable(c"softlock_consume()");
    Ok(consume::consume(&cart, &caller)?)
}

/// Frees anybody's live lock, and says so in the server's log.
///
/// * `reason`: why, for the log; 1 to 1024 bytes or NULL
///
/// Answers `{"broken": true, …}` with whose lock it was, or `{"broken": false, "outcome":
/// "not_held", …}`. Waits for the holder's own transaction where it is writing the lock.
#[pg_extern(security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn softlock_break(
    resource: Option<&str>,
    reason: default!(Option<&str>, "NULL"),
) -> Result<Jsonb, ErrorReport> {
    let resource = Resource::parse(resource)?;
    let reason = Reason::parse(reason)?;
    pg::require_writable(c"softlock_break()");
    Ok(breaking::break_lock(&resource, reason.as_ref())?)
}

/// Deletes expired locks, oldest first, skipping rows that other transactions have locked.
///
/// * `max_rows`: at most so many, at least 1; NULL means `softlock.sweep_batch`
///
/// Answers `{"released_count": n, "affected": […], "affected_truncated": …, "timestamp": …,
/// "duration_ms": …}`, with at most 1000 resources in `affected`.
#[pg_extern(security_definer)]
#[search_path(pg_catalog, pg_temp)]
fn softlock_sweep(max_rows: default!(Option<i32>, "NULL")) -> Result<Jsonb, ErrorReport> {
    let max_rows = match max_rows {
        Some(given) => names::positive("max_rows", given)?,
        None => settings::sweep_batch(),
    };
    pg::require_writable(c"softlock_sweep()");
    let mut report = sweep::Report::empty(sweep::LISTED);
    report.batch(max_rows)?;
    report.log();
    Ok(report.answer())
}

/// Says who holds what: a row for each resource asked about, in the order asked.
///
/// * `resources`: the resources to look at
/// * `owner`: `locked_by_me` and `session` are about this owner's locks
///
/// Writes nothing and works on a hot standby and in a read-only transaction.
#[pg_extern(security_definer)]
#[search_path(pg_catalog, pg_temp)]
#[allow(clippy::type_complexity)]
fn softlock_status(
    resources: Option<Array<&str>>,
    owner: default!(Option<&str>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(resource, String),
            name!(is_locked, bool),
            name!(locked_by_me, bool),
            name!(owner, Option<String>),
            name!(session, Option<String>),
            name!(metadata, Option<Jsonb>),
            name!(acquired_at, Option<TimestampWithTimeZone>),
            name!(expires_at, Option<TimestampWithTimeZone>),
            name!(remaining, Option<Interval>),
        ),
    >,
    ErrorReport,
> {
    let resources = resources.ok_or(Error::Null {
        argument: "resources",
    })?;
    let resources = resources
        .iter()
        .map(Resource::parse)
        .collect::<Result<Vec<_>, _>>()?;
    let owner = owner.map(|owner| Owner::parse(Some(owner))).transpose()?;
    let rows = status::status(&resources, owner)?
        .into_iter()
        .map(|status| {
            let mine = status.mine;
            let Some(lock) = status.lock else {
                return (
                    status.resource,
                    false,
                    false,
                    None,
                    None,
                    None,
                    None,
                    None,
                    None,
                );
            };
            let remaining = Interval::from_micros(lock.expires_at.micros_since(status.t));
            (
                status.resource,
                true,
                mine,
                Some(lock.owner),
                lock.session.filter(|_| mine),
                lock.metadata,
                Some(lock.acquired_at.into()),
                Some(lock.expires_at.into()),
                Some(remaining),
            )
        });
    Ok(TableIterator::new(rows.collect::<Vec<_>>()))
}

/// Warns when the server has not preloaded the library; run by CREATE EXTENSION.
#[pg_extern(sql = r#"
CREATE FUNCTION softlock.check_preload() RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#, requires = ["tables"])]
fn check_preload() {
    if !worker::is_registered() {
        Error::NotPreloaded.warn();
    }
}

/// BEFORE UPDATE OR DELETE, row level: refuses a write while somebody else than `softlock.owner`
/// holds the row's resource.
///
/// Arguments of the trigger: the resource's prefix, the column of the key and, optionally,
/// `'require'`, which refuses the write also where no lock is held. Raises 55P03, or 39P01 where
/// the trigger is not declared like that. A row whose key is NULL is never refused.
#[pg_trigger(sql = r#"
CREATE FUNCTION softlock_guard() RETURNS trigger
SECURITY DEFINER SET search_path TO pg_catalog, pg_temp
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn softlock_guard<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>, Error> {
    // Reported here, since pgrx would raise an Err as an internal error.
    guard::fire(trigger)
        .map_err(|error| ErrorReport::from(error).report(PgLogLevel::ERROR))
        .ok();
    let deletes = matches!(trigger.op(), Ok(PgTriggerOperation::Delete));
    Ok(if deletes {
        trigger.old()
    } else {
        trigger.new()
    })
}

fn claim(
    owner: Option<&str>,
    ttl: Option<Interval>,
    session: Option<&str>,
    metadata: Option<Jsonb>,
) -> Result<Claim, Error> {
    Ok(Claim {
        caller: Caller::new(Owner::parse(owner)?),
        ttl: Ttl::parse(ttl)?,
        session: Session::parse(session)?,
        metadata: Metadata::parse(metadata)?,
    })
}
