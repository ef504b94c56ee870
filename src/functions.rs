//! The SQL functions: parse the arguments, call the verb. Comments and privileges are
//! in `sql/functions.sql`.

use pgrx::datum::{Array, Interval, TimestampWithTimeZone};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use crate::error::Error;
use crate::lock::{Caller, Claim};
use crate::names::{Metadata, Owner, Resource, Session, Ttl, positive};
use crate::pg::{self, Jsonb};
use crate::settings;
use crate::verbs::{acquire, release, renew, status, sweep};
use crate::worker;

/// Takes a resource for an owner, prolongs the owner's hold on it, or says who has it.
///
/// * `resource`: what to lock, 1 to 1024 bytes
/// * `owner`: who is to hold it, 1 to 256 bytes
/// * `ttl`: time to live; NULL means `softlock.default_ttl`; positive, at most `softlock.max_ttl`
/// * `session`: groups the owner's locks, as a cart id; 1 to 256 bytes or NULL
/// * `metadata`: what others see about the hold: a JSON object of at most 8 KiB, or NULL
/// * `wait`: how long to try; zero answers at once
///
/// Answers `{"acquired": true, "outcome": "granted" | "renewed" | "moved", …}` or
/// `{"acquired": false, "outcome": "held" | "contended", …}`. Errors: 22004 and 22023 for bad
/// arguments, 25006 in a read-only transaction or on a standby.
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
    let wait = wait.ok_or(Error::Null { argument: "wait" })?;
    if wait.as_micros() != 0 {
        return Err(Error::WaitUnsupported.into());
    }
    pg::require_writable(c"softlock_acquire()");
    Ok(acquire::acquire(&resource, &claim)?)
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
    let caller = Caller::new(Owner::parse(owner)?);
    let ttl = Ttl::parse(ttl)?;
    pg::require_writable(c"softlock_renew()");
    Ok(renew::renew(&resource, caller, ttl, token)?)
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
        Some(given) => positive("max_rows", given)?,
        None => settings::sweep_batch(),
    };
    pg::require_writable(c"softlock_sweep()");
    let report = sweep::batch(max_rows);
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
    let resources = resources_of(resources)?;
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
        ereport!(
            WARNING,
            PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
            "softlock is not preloaded: locks lapse on time, but nothing sweeps them by itself",
            "Add to postgresql.conf and restart: shared_preload_libraries = 'softlock'"
        );
    }
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

/// The resources of an array, each parsed.
fn resources_of(resources: Option<Array<&str>>) -> Result<Vec<Resource>, Error> {
    let resources = resources.ok_or(Error::Null {
        argument: "resources",
    })?;
    resources.iter().map(Resource::parse).collect()
}
