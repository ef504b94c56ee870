//! The functions for whole carts, for any of several resources, and for limits by kind.

use pgrx::datum::Interval;
use pgrx::pg_sys;
use pgrx::prelude::*;

use super::{claim, require_writable};
use crate::ask::Ask;
use crate::cart::Cart;
use crate::error::Error;
use crate::lock::Caller;
use crate::names::{self, Owner, Prefix, Reason, Session, Ttl};
use crate::pg::trigger::Firing;
use crate::pg::{self, Answer, Raw, RawArray, RawJsonb, RawText};
use crate::policy::Known;
use crate::verbs::break_all::{self, Filter};
use crate::verbs::{acquire_any, renew_all, transfer};

/// Takes the first of a list of resources that can be had, or several; never waits for another transaction.
///
/// * `resources`: in the order in which they are preferred; at most 1000; duplicates count once
/// * `count`: how many of them, at least 1; those that the owner has already count
/// * the rest as for `softlock_acquire`
///
/// Answers as `softlock_acquire_many`: those that were taken, or, where there are fewer than asked for,
/// none, with every conflict. Errors: as `softlock_acquire_many`.
#[pg_extern(name = "softlock_acquire_any", cost = 10000)]
fn softlock_acquire_any_v2(
    resources: Option<RawArray<RawText>>,
    owner: Option<RawText>,
    count: default!(Option<i32>, "1"),
    ttl: default!(Option<Interval>, "NULL"),
    session: default!(Option<RawText>, "NULL"),
    metadata: default!(Option<RawJsonb>, "NULL"),
) -> Answer {
    Answer::of(move || {
        let cart = Cart::parse(resources, None)?;
        let claim = claim(owner, ttl, session, metadata)?;
        let count = names::positive("count", count.ok_or(Error::Null { argument: "count" })?)?;
        let policies = Known::now()?;
        let asks = cart.sorted().iter();
        let asks = asks.map(|resource| Ask::new(resource, 1, 1, &claim, &policies));
        let asks = asks.collect::<Result<Vec<_>, _>>()?;
        require_writable("softlock_acquire_any")?;
        acquire_any::acquire_any(&cart, &asks, count as usize, &claim)
    })
}

/// Prolongs the caller's live locks, or those of one of its sessions, in one call: a cart's heartbeat.
///
/// * `session`: only this session's locks; NULL means all of the owner's
/// * `ttl`: time to live from now; NULL means the kind's, else `softlock.default_ttl`
///
/// Answers `{"renewed_count": n, "locks": [{"resource", "token", "expires_at"}, ...], "lapsed": [...]}`, in
/// byte order; `lapsed` names those that have lapsed and are not yet swept. None is shortened, nor held for
/// longer than `max_hold`: then it has `"capped": true`. Waits for the caller's own transactions in other
/// connections.
#[pg_extern(name = "softlock_renew_all", cost = 10000)]
fn softlock_renew_all_v2(
    owner: Option<RawText>,
    session: default!(Option<RawText>, "NULL"),
    ttl: default!(Option<Interval>, "NULL"),
) -> Answer {
    Answer::of(move || {
        let caller = Caller::new(Owner::parse(owner)?);
        let session = Session::parse_optional(session)?;
        require_writable("softlock_renew_all")?;
        renew_all::renew_all(&caller, session.as_ref(), Ttl::parse_optional(ttl))
    })
}

/// Hands the caller's live locks over to another owner, all or none, with new tokens: a guest logs in, a
/// shift changes.
///
/// * `resources`: at most 1000; duplicates count once; NULL means all of the owner's
/// * `new_owner`: who is to hold them, 1 to 256 bytes
/// * `session`: only this session's locks; the locks keep their sessions
/// * `tokens`: when given, one per resource, which must be the locks' tokens
///
/// Answers `{"transferred": true, "locks": [{"resource", "token", "expires_at"}, ...]}`, or
/// `{"transferred": false, "conflicts": [{"resource", "outcome", ...}, ...]}`. Nobody can come between, not
/// even who waits for one of them. Waits for the caller's own transactions in other connections.
#[pg_extern(name = "softlock_transfer", cost = 10000)]
fn softlock_transfer_v2(
    resources: Option<RawArray<RawText>>,
    owner: Option<RawText>,
    new_owner: Option<RawText>,
    session: default!(Option<RawText>, "NULL"),
    tokens: default!(Option<RawArray<i64>>, "NULL"),
) -> Answer {
    Answer::of(move || {
        let cart = match (resources, tokens) {
            (None, Some(_)) => {
                return Err(Error::Null {
                    argument: "resources",
                });
            }
            (None, None) => None,
            (resources, tokens) => Some(Cart::parse(resources, tokens)?),
        };
        let caller = Caller::new(Owner::parse(owner)?);
        let to = Owner::parse_optional(new_owner)?;
        let to = to.ok_or(Error::Null {
            argument: "new_owner",
        })?;
        let session = Session::parse_optional(session)?;
        require_writable("softlock_transfer")?;
        transfer::transfer(cart.as_ref(), session.as_ref(), &caller, &to)
    })
}

/// Frees the live locks that all given filters are about, whoever holds them, and says so in the server's
/// log once it is committed.
///
/// * `owner`, `session`: whose they are
/// * `prefix`: what the resources begin with, as `kit:`
/// * `older_than`: how long ago they were taken at least
/// * `reason`: why, for the log; 1 to 1024 bytes or NULL
///
/// At least one filter is needed. Answers `{"broken_count": n, "locks": [...]}`, with at most 1000 locks.
/// Waits for holders' own transactions where they are writing the locks.
#[pg_extern(name = "softlock_break_all", cost = 10000)]
fn softlock_break_all_v2(
    owner: default!(Option<RawText>, "NULL"),
    session: default!(Option<RawText>, "NULL"),
    prefix: default!(Option<RawText>, "NULL"),
    older_than: default!(Option<Interval>, "NULL"),
    reason: default!(Option<RawText>, "NULL"),
) -> Answer {
    Answer::of(move || {
        let older_than = older_than.map(|interval| names::age("older_than", &interval));
        let filter = Filter {
            owner: Owner::parse_optional(owner)?,
            session: Session::parse_optional(session)?,
            prefix: Prefix::parse_optional(prefix)?,
            older_than: older_than.transpose()?,
        };
        if filter.is_empty() {
            return Err(Error::NoFilter);
        }
        let reason = Reason::parse_optional(reason)?;
        require_writable("softlock_break_all")?;
        break_all::break_all(&filter, reason.as_ref())
    })
}

/// The trigger function of `softlock.policies`: has every session read them anew once this transaction has
/// committed.
#[pg_extern(sql = r#"
CREATE FUNCTION softlock.policies_changed() RETURNS trigger LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
"#, requires = ["tables"])]
fn policies_changed(fcinfo: pg_sys::FunctionCallInfo) -> Raw {
    match Firing::of(fcinfo) {
        Some(firing) => {
            pg::policies::changed(firing.table());
            firing.row()
        }
        None => Error::SetNotAllowed.raise(),
    }
}
