//! The SQL functions: parse the arguments, call the verb. Comments and privileges are
//! in `sql/functions.sql`.
//!
//! They run no SQL, so they need no rights of their own: the privileges of whoever calls count.
//!
//! Their names in Rust are those of their C symbols. With each version that changes the table they get a
//! new number, and the old names go to `outdated`: a session that still has the older library then does
//! not find them, instead of writing rows of the older kind.

mod adopt;
pub mod carts;
mod watching;

use pgrx::datum::Interval;
use pgrx::prelude::*;
use pgrx::{IntoDatum, pg_sys};

use crate::ask::Ask;
use crate::cart::{self, Cart};
use crate::error::Error;
use crate::lock::{Caller, Claim};
use crate::names::{self, Metadata, Owner, Reason, Resource, Session, Ttl};
use crate::pg::trigger::Firing;
use crate::pg::{self, Answer, Raw, RawArray, RawJsonb, RawText, Rows, text_datum};
use crate::policy::Known;
use crate::settings;
use crate::verbs::status::Status;
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
/// * `wait`: how long to try, at most `softlock.max_wait`; zero answers at once and never waits for
///   another transaction
/// * `units`: how many of the resource's units to hold, at least 1; asking again with another number
///   changes the hold to it
/// * `capacity`: how many units there are, at least 1
///
/// Answers `{"acquired": true, "outcome": "granted" | "renewed" | "moved", ...}` or
/// `{"acquired": false, "outcome": "held" | "contended" | "quota", ...}`. Errors: 22004, 22021 and 22023 for bad
/// arguments, 25006 in a read-only transaction or on a standby, 0A000 for a `wait` above READ
/// COMMITTED, 40001 above READ COMMITTED as any statement, 55000 where the table has been altered.
#[pg_extern(name = "softlock_acquire", cost = 10000)]
#[allow(clippy::too_many_arguments)] // as many as SQL has
fn softlock_acquire_v2(
    resource: Option<RawText>,
    owner: Option<RawText>,
    ttl: default!(Option<Interval>, "NULL"),
    session: default!(Option<RawText>, "NULL"),
    metadata: default!(Option<RawJsonb>, "NULL"),
    wait: default!(Option<Interval>, "'0'"),
    units: default!(Option<i32>, "1"),
    capacity: default!(Option<i32>, "1"),
) -> Answer {
    Answer::of(move || {
        let resource = Resource::parse(resource)?;
        let claim = claim(owner, ttl, session, metadata)?;
        let units = units.ok_or(Error::Null { argument: "units" })?;
        let capacity = capacity.ok_or(Error::Null {
            argument: "capacity",
        })?;
        let ask = Ask::new(&resource, units, capacity, &claim, &Known::now()?)?;
        let wait = names::wait(wait)?;
        if !wait.is_zero() && pg::uses_transaction_snapshot() {
            return Err(Error::WaitIsolation);
        }
        require_writable("softlock_acquire")?;
        acquire::acquire(&ask, &claim, wait)
    })
}

/// Takes a whole cart for an owner, all or nothing; never waits for another transaction.
///
/// * `resources`: at most 1000; duplicates count once; an empty array is an empty cart
/// * `units`, `capacities`: one for each resource, or NULL for 1 each
/// * the rest as for `softlock_acquire`
///
/// Answers `{"acquired": true, "locks": [{"resource", "outcome", "token", "expires_at"}, ...]}` in the
/// order asked, or `{"acquired": false, "conflicts": [{"resource", "outcome", "owner",
/// "expires_at", "retry_after_ms"}, ...]}` with every conflict. Errors: as `softlock_acquire`, and
/// 54000 for too many resources.
#[pg_extern(name = "softlock_acquire_many", cost = 10000)]
fn softlock_acquire_many_v2(
    resources: Option<RawArray<RawText>>,
    owner: Option<RawText>,
    ttl: default!(Option<Interval>, "NULL"),
    session: default!(Option<RawText>, "NULL"),
    metadata: default!(Option<RawJsonb>, "NULL"),
    units: default!(Option<RawArray<i32>>, "NULL"),
    capacities: default!(Option<RawArray<i32>>, "NULL"),
) -> Answer {
    Answer::of(move || {
        let cart = Cart::parse(resources, None)?;
        let claim = claim(owner, ttl, session, metadata)?;
        let units = cart.numbers("units", units)?;
        let capacities = cart.numbers("capacities", capacities)?;
        let number = |of: &Option<Vec<i32>>, at: usize| of.as_ref().map_or(1, |of| of[at]);
        let policies = Known::now()?;
        let asks = cart.sorted().iter().enumerate();
        let asks = asks.map(|(at, resource)| {
            let (units, capacity) = (number(&units, at), number(&capacities, at));
            Ask::new(resource, units, capacity, &claim, &policies)
        });
        let asks = asks.collect::<Result<Vec<_>, _>>()?;
        require_writable("softlock_acquire_many")?;
        acquire_many::acquire_many(&cart, &asks, &claim)
    })
}

/// Prolongs the caller's live lock; never shortens it.
///
/// * `ttl`: time to live from now; NULL means `softlock.default_ttl`
/// * `token`: when given, it must be the lock's token
///
/// Answers `{"renewed": true, ...}`, or `{"renewed": false, "outcome": "not_held" | "expired" |
/// "held" | "stale_token", ...}`. Waits for the caller's own transaction in another connection. Raises
/// 55P03 when the table is locked for more than a second.
#[pg_extern(name = "softlock_renew", cost = 10000)]
fn softlock_renew_v2(
    resource: Option<RawText>,
    owner: Option<RawText>,
    ttl: default!(Option<Interval>, "NULL"),
    token: default!(Option<i64>, "NULL"),
) -> Answer {
    Answer::of(move || {
        let resource = Resource::parse(resource)?;
        let caller = Caller::new(Owner::parse(owner)?);
        require_writable("softlock_renew")?;
        renew::renew(&resource, &caller, Ttl::parse_optional(ttl), token)
    })
}

/// Frees the caller's live lock; asking again is harmless.
///
/// * `token`: when given, it must be the lock's token
///
/// Answers `{"released": true, ...}`, or `{"released": false, "outcome": "not_held" | "expired" |
/// "held" | "stale_token", ...}`. Waits for the caller's own transaction in another connection. Raises
/// 55P03 when the table is locked for more than a second.
#[pg_extern(name = "softlock_release", cost = 10000)]
fn softlock_release_v2(
    resource: Option<RawText>,
    owner: Option<RawText>,
    token: default!(Option<i64>, "NULL"),
) -> Answer {
    Answer::of(move || {
        let resource = Resource::parse(resource)?;
        let caller = Caller::new(Owner::parse(owner)?);
        require_writable("softlock_release")?;
        release::release(&resource, &caller, token)
    })
}

/// Frees the caller's live locks, or those of one of its sessions, in one call.
///
/// * `session`: only this session's locks; NULL means all of the owner's
///
/// Answers `{"released_count": n, "resources": [...]}` in byte order. Locks of the same owner taken in
/// a role that the caller does not act for stay.
#[pg_extern(name = "softlock_release_all", cost = 10000)]
fn softlock_release_all_v2(
    owner: Option<RawText>,
    session: default!(Option<RawText>, "NULL"),
) -> Answer {
    Answer::of(move || {
        let caller = Caller::new(Owner::parse(owner)?);
        let session = Session::parse_optional(session)?;
        require_writable("softlock_release_all")?;
        release_all::release_all(&caller, session.as_ref())
    })
}

/// Ends the caller's holds in the transaction that sells, or raises an error so that it can't.
///
/// * `resources`: at most 1000; duplicates count once
/// * `tokens`: when given, one per resource, which must be the locks' tokens
///
/// Answers `{"consumed_count": n}`. Raises SL001 when any resource is not the caller's live lock,
/// naming each in DETAIL with `not_held`, `expired`, `held` or `stale_token`. Until the transaction
/// commits others still see the locks as held; a rollback brings them back.
#[pg_extern(name = "softlock_consume", cost = 10000)]
fn softlock_consume_v2(
    resources: Option<RawArray<RawText>>,
    owner: Option<RawText>,
    tokens: default!(Option<RawArray<i64>>, "NULL"),
) -> Answer {
    Answer::of(move || {
        let cart = Cart::parse(resources, tokens)?;
        let caller = Caller::new(Owner::parse(owner)?);
        require_writable("softlock_consume")?;
        consume::consume(&cart, &caller)
    })
}

/// Frees anybody's live lock, and says so in the server's log once it is committed.
///
/// * `reason`: why, for the log; 1 to 1024 bytes or NULL
///
/// Answers `{"broken": true, ...}` with whose lock it was, or `{"broken": false, "outcome":
/// "not_held" | "contended", ...}`, the latter with the one who is taking it. Waits for the holder's own
/// transaction where it is writing the lock.
#[pg_extern(name = "softlock_break", cost = 10000)]
fn softlock_break_v2(
    resource: Option<RawText>,
    reason: default!(Option<RawText>, "NULL"),
) -> Answer {
    Answer::of(move || {
        let resource = Resource::parse(resource)?;
        let reason = Reason::parse_optional(reason)?;
        require_writable("softlock_break")?;
        breaking::break_lock(&resource, reason.as_ref())
    })
}

/// Deletes expired locks, oldest first, skipping rows that other transactions have locked.
///
/// * `max_rows`: at most so many, at least 1; NULL means `softlock.sweep_batch`
///
/// Answers `{"released_count": n, "affected": [...], "affected_truncated": ..., "timestamp": ...,
/// "duration_ms": ..., "adopted": [{"table", "released_count", "affected", "affected_truncated"}, ...]}`,
/// with at most 1000 resources in `affected`, and as many labels for each adopted table; `max_rows` holds
/// for each table. One that can't be swept has an `error`. Raises 55P03 while the locks' table is locked.
#[pg_extern(name = "softlock_sweep", cost = 10000)]
fn softlock_sweep_v2(max_rows: default!(Option<i32>, "NULL")) -> Answer {
    Answer::of(move || {
        let max_rows = match max_rows {
            Some(given) => names::positive("max_rows", given)?,
            None => settings::sweep_batch(),
        };
        require_writable("softlock_sweep")?;
        sweep::sweep(max_rows)
    })
}

/// Says who holds what: a row for each resource asked about, in the order asked.
///
/// * `resources`: the resources to look at, at most 10,000
/// * `owner`: `locked_by_me` and `session` are about this owner's locks
///
/// `pending_owner` and `pending_pid` tell of a transaction that is taking it, or ending a lock on it.
/// `units` are all that are held; the other columns are about the owner's own lock, or about the only one.
/// Writes nothing and works on a hot standby and in a read-only transaction.
#[pg_extern(sql = r#"
CREATE FUNCTION softlock_status(
    "resources" text[], "owner" text DEFAULT NULL
) RETURNS TABLE (
    "resource" text, "is_locked" boolean, "locked_by_me" boolean, "owner" text, "session" text,
    "metadata" jsonb, "acquired_at" timestamptz, "expires_at" timestamptz, "remaining" interval,
    "pending_owner" text, "pending_pid" integer, "units" integer
)
COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn softlock_status_v2(
    resources: Option<RawArray<RawText>>,
    owner: Option<RawText>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Raw {
    Rows::of(fcinfo, move |rows| {
        let resources = cart::parse_resources(resources)?;
        let owner = Owner::parse_optional(owner)?;
        status::status(&resources, owner, |status| put_status(rows, status))
    })
}

fn put_status(rows: &Rows, status: Status) {
    let Status {
        resource,
        look,
        mine,
        units,
        t,
    } = status;
    let lock = look.lock.as_ref();
    let taker = look.taker.as_ref();
    let remaining =
        |until: pg::Timestamp| Interval::from_micros(until.micros_since(t)).into_datum();
    rows.put(|| {
        [
            Some(text_datum(resource.as_bytes())),
            (units > 0).into_datum(),
            mine.into_datum(),
            lock.map(|lock| text_datum(lock.owner.as_bytes())),
            lock.filter(|_| mine)
                .and_then(|lock| lock.session.as_ref())
                .map(|session| text_datum(session.as_bytes())),
            lock.and_then(|lock| lock.metadata.as_ref())
                .map(pg::Jsonb::to_datum),
            lock.and_then(|lock| lock.acquired_at.raw().into_datum()),
            lock.and_then(|lock| lock.expires_at.raw().into_datum()),
            lock.and_then(|lock| remaining(lock.expires_at)),
            taker.map(|taker| text_datum(taker.owner.as_bytes())),
            taker
                .and_then(|taker| taker.pid)
                .and_then(IntoDatum::into_datum),
            i32::try_from(units).unwrap_or(i32::MAX).into_datum(),
        ]
    });
}

/// What `softlock_pending` shows: the locks that transactions which have not ended are taking or ending.
#[pg_extern(sql = r#"
CREATE FUNCTION softlock.pending(
    OUT resource text, OUT owner text, OUT role regrole, OUT doing text, OUT transaction xid, OUT pid integer
) RETURNS SETOF record
COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#, requires = ["tables"])]
fn softlock_pending_rows(fcinfo: pg_sys::FunctionCallInfo) -> Raw {
    Rows::of(fcinfo, move |rows| {
        status::pending(|pending| {
            rows.put(|| {
                [
                    Some(text_datum(pending.row.resource().as_bytes())),
                    Some(text_datum(pending.row.owner().as_bytes())),
                    pending.row.role().into_datum(),
                    Some(text_datum(if pending.is_taking {
                        b"taking"
                    } else {
                        b"ending"
                    })),
                    Some(pending.transaction.into()),
                    pending.pid.and_then(IntoDatum::into_datum),
                ]
            });
        })
    })
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

/// BEFORE INSERT OR UPDATE OR DELETE, row level: refuses a write while somebody else than
/// `softlock.owner` holds the row's resource, as it was or as it is to be.
///
/// Arguments of the trigger: the resource's prefix, the column of the key and, optionally,
/// `'require'`, which refuses the write also where no lock is held. Raises SL002 and SL003, or 39P01
/// where the trigger is not declared like that. A row whose key is NULL is never refused. What was let
/// through because the writer holds it stays the writer's until its transaction ends.
#[pg_extern(sql = r#"
CREATE FUNCTION softlock_guard() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#)]
fn softlock_guard_v2(fcinfo: pg_sys::FunctionCallInfo) -> Raw {
    let fired = match Firing::of(fcinfo) {
        Some(firing) => guard::fire(&firing).map(|()| firing.row()),
        None => Err(Error::GuardDeclaration {
            problem: b"is a trigger function, and can't be called otherwise".into(),
        }),
    };
    match fired {
        Ok(row) => row,
        Err(error) => error.raise(),
    }
}

/// Refuses to go on in a read-only transaction and on a standby.
fn require_writable(command: &'static str) -> Result<(), Error> {
    match pg::is_read_only() {
        true => Err(Error::ReadOnly { command }),
        false => Ok(()),
    }
}

fn claim(
    owner: Option<RawText>,
    ttl: Option<Interval>,
    session: Option<RawText>,
    metadata: Option<RawJsonb>,
) -> Result<Claim, Error> {
    Ok(Claim {
        caller: Caller::new(Owner::parse(owner)?),
        ttl: Ttl::parse_optional(ttl),
        session: Session::parse_optional(session)?,
        metadata: Metadata::parse(metadata)?,
    })
}
