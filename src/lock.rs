//! A row of `softlock.locks`, what is to be seen of a resource, and the decision about it.

use pgrx::pg_sys;

use crate::ask::Ask;
use crate::names::{Metadata, Owner, Session, Ttl};
use crate::pg::{self, Jsonb, Place, Timestamp};
use crate::policy::Terms;
use crate::text::Text;
use crate::units::Slots;

/// A hold on a resource, live or lapsed.
#[derive(Debug, Clone)]
pub struct Lock {
    pub owner: Text,
    pub session: Option<Text>,
    pub token: i64,
    pub role: pg_sys::Oid,
    pub metadata: Option<Jsonb>,
    pub acquired_at: Timestamp,
    pub expires_at: Timestamp,
    /// Which of the resource's holds it is.
    pub slot: i32,
    /// Larger with every write of the resource.
    pub version: i64,
    /// How many of the resource's units it takes.
    pub units: i32,
    /// Where it is, if it was read from the table.
    pub place: Option<Place>,
}

impl Lock {
    /// The one boundary, everywhere: `expires_at > clock_timestamp()`.
    pub fn is_live(&self, t: Timestamp) -> bool {
        self.expires_at > t
    }

    /// What it becomes when it is prolonged at `t`, which never shortens it, and whether it lapses sooner
    /// than asked.
    pub fn renewed(&self, terms: &Terms, t: Timestamp, version: i64) -> (Lock, bool) {
        let (expires_at, capped) = terms.expiry(self.acquired_at, t);
        let lock = Lock {
            expires_at: self.expires_at.max(expires_at),
            version,
            place: None,
            ..self.clone()
        };
        (lock, capped)
    }

    /// Where a lock is that was read from the table.
    pub fn place(&self) -> Place {
        self.place.expect("the lock was read from the table")
    }
}

/// What is to be seen of a resource at one moment.
#[derive(Debug, Default)]
pub struct Look {
    /// What is committed, or this transaction's own; live or lapsed.
    pub lock: Option<Lock>,
    /// Who is taking or ending a lock on it, and has not committed.
    pub taker: Option<Taker>,
    /// The most units that one of its uncommitted versions takes.
    pub taking: i32,
    /// The largest version that was met; 0 for none.
    pub newest: i64,
    /// There are, or were a moment ago, holds of units on it, of which more than one can live at a time:
    /// all of them have to be looked at.
    pub is_shared: bool,
}

impl Look {
    /// Whether the taker has ended since.
    pub fn has_stale_taker(&self) -> bool {
        let has_ended = |taker: &Taker| pg::visibility::has_ended(taker.transaction);
        self.taker.as_ref().is_some_and(has_ended)
    }
}

/// A transaction that has taken, or is ending, a lock and has not committed.
#[derive(Debug, Clone)]
pub struct Taker {
    pub owner: Text,
    pub transaction: pg_sys::TransactionId,
    /// Its process; `None` for a prepared transaction.
    pub pid: Option<i32>,
}

impl Taker {
    pub fn new(owner: Text, transaction: pg_sys::TransactionId) -> Self {
        Taker {
            owner,
            transaction,
            pid: pg::visibility::pid_of(transaction),
        }
    }
}

/// Who calls: the owner named in the call, and the role whose privileges count.
#[derive(Debug, Clone)]
pub struct Caller {
    pub owner: Owner,
    pub role: pg_sys::Oid,
}

impl Caller {
    pub fn new(owner: Owner) -> Self {
        Caller {
            owner,
            role: pg::current_role(),
        }
    }

    /// The slots in which its hold of units of a resource can be.
    pub fn slots(&self) -> Slots {
        Slots::of_owner(pg::stored_hash(self.owner.as_text().as_bytes()))
    }

    /// Whether the lock, live or lapsed, was taken by this owner in a role the caller acts for.
    pub fn holds(&self, lock: &Lock) -> bool {
        *self.owner.as_text() == lock.owner && pg::has_privileges_of(self.role, lock.role)
    }
}

/// What a caller asks for a resource.
#[derive(Debug, Clone)]
pub struct Claim {
    pub caller: Caller,
    pub session: Option<Session>,
    pub metadata: Option<Metadata>,
    /// The time to live that was given; else it is the kind's, or the setting.
    pub ttl: Option<Ttl>,
}

impl Claim {
    /// What the row becomes at `t` by a decision about the one seen, and whether it lapses sooner than
    /// asked, as nothing is held for longer. The version of a grant and of a move is its token, too; a
    /// grant goes to `slot`.
    pub fn apply(
        &self,
        decision: Decision,
        seen: Option<&Lock>,
        ask: &Ask,
        slot: i32,
        t: Timestamp,
        version: i64,
    ) -> (Lock, bool) {
        let session = self.session.as_ref().map(|s| s.as_text().clone());
        let metadata = self.metadata.as_ref().map(|m| m.as_jsonb().clone());
        match (decision, seen) {
            (Decision::Renew | Decision::Move, Some(seen)) => {
                let (session, token) = match decision {
                    Decision::Move => (session, version),
                    _ => (seen.session.clone(), seen.token),
                };
                let (lock, capped) = seen.renewed(&ask.terms, t, version);
                let lock = Lock {
                    session,
                    token,
                    metadata: metadata.or(lock.metadata),
                    units: ask.units,
                    ..lock
                };
                (lock, capped)
            }
            _ => {
                let (expires_at, capped) = ask.terms.expiry(t, t);
                let lock = Lock {
                    owner: self.caller.owner.as_text().clone(),
                    session,
                    token: version,
                    role: self.caller.role,
                    metadata,
                    acquired_at: t,
                    expires_at,
                    slot,
                    version,
                    units: ask.units,
                    place: None,
                };
                (lock, capped)
            }
        }
    }
}

/// What an acquire does about a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// There is no live lock: take it.
    Grant,
    /// The caller's own: prolong it.
    Renew,
    /// The caller's own in another session: bring it over, with a new token.
    Move,
    /// Somebody else's.
    Held,
}

/// The decision table of an acquire: `current` is the row for the resource, `is_holder` whether it
/// is the caller's, `session` what the caller asks for.
pub fn decide(
    current: Option<&Lock>,
    is_holder: impl FnOnce(&Lock) -> bool,
    session: Option<&Session>,
    t: Timestamp,
) -> Decision {
    match current.filter(|lock| lock.is_live(t)) {
        None => Decision::Grant,
        Some(lock) if !is_holder(lock) => Decision::Held,
        Some(lock) => match session {
            Some(session) if lock.session.as_ref() != Some(session.as_text()) => Decision::Move,
            _ => Decision::Renew,
        },
    }
}

/// What stands against a renew or a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No lock, or somebody else's that has lapsed.
    NotHeld,
    /// The caller's own, lapsed and not yet swept.
    Expired,
    /// Somebody else's, live.
    Held,
    /// The caller's own and live, but with another token.
    StaleToken,
}

/// Whether the caller holds the resource at `t`, with each of the tokens that are given.
pub fn verify(
    current: Option<&Lock>,
    is_holder: impl FnOnce(&Lock) -> bool,
    tokens: &[i64],
    t: Timestamp,
) -> Result<(), Refusal> {
    let Some(lock) = current else {
        return Err(Refusal::NotHeld);
    };
    match (is_holder(lock), lock.is_live(t)) {
        (false, true) => Err(Refusal::Held),
        (false, false) => Err(Refusal::NotHeld),
        (true, false) => Err(Refusal::Expired),
        (true, true) if tokens.iter().any(|&token| token != lock.token) => Err(Refusal::StaleToken),
        (true, true) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timestamp = Timestamp::from_raw(1_000);

    fn lock(expires_at: i64, session: Option<&str>) -> Lock {
        Lock {
            owner: "anna".into(),
            session: session.map(Into::into),
            token: 7,
            slot: 0,
            version: 7,
            units: 1,
            role: pg_sys::Oid::from(10),
            metadata: None,
            acquired_at: Timestamp::from_raw(0),
            expires_at: Timestamp::from_raw(expires_at),
            place: None,
        }
    }

    fn decision(lock: Option<Lock>, is_holder: bool, session: Option<&str>) -> Decision {
        let session = session.map(Session::of);
        decide(lock.as_ref(), |_| is_holder, session.as_ref(), T)
    }

    #[test]
    fn a_free_or_lapsed_resource_is_granted_to_anyone() {
        assert_eq!(decision(None, false, None), Decision::Grant);
        for is_holder in [true, false] {
            assert_eq!(
                decision(Some(lock(999, None)), is_holder, None),
                Decision::Grant
            );
        }
    }

    #[test]
    fn a_lock_lapses_at_the_very_microsecond_of_its_expiry() {
        assert!(!lock(1_000, None).is_live(T));
        assert!(lock(1_001, None).is_live(T));
    }

    #[test]
    fn somebody_elses_live_lock_is_held_whatever_the_session() {
        assert_eq!(
            decision(Some(lock(2_000, Some("a"))), false, Some("a")),
            Decision::Held
        );
    }

    #[test]
    fn the_holder_renews_in_the_same_session_and_without_one() {
        assert_eq!(
            decision(Some(lock(2_000, Some("a"))), true, Some("a")),
            Decision::Renew
        );
        assert_eq!(
            decision(Some(lock(2_000, Some("a"))), true, None),
            Decision::Renew
        );
        assert_eq!(
            decision(Some(lock(2_000, None)), true, None),
            Decision::Renew
        );
    }

    #[test]
    fn the_holder_moves_a_lock_to_another_session() {
        assert_eq!(
            decision(Some(lock(2_000, Some("a"))), true, Some("b")),
            Decision::Move
        );
        assert_eq!(
            decision(Some(lock(2_000, None)), true, Some("b")),
            Decision::Move
        );
    }

    #[test]
    fn only_the_live_holder_with_the_right_token_passes() {
        let check = |lock: Option<&Lock>, is_holder: bool, token: Option<i64>| {
            verify(lock, |_| is_holder, token.as_slice(), T)
        };
        let (live, lapsed) = (lock(2_000, None), lock(500, None));
        assert_eq!(check(Some(&live), true, None), Ok(()));
        assert_eq!(check(Some(&live), true, Some(7)), Ok(()));
        assert_eq!(check(Some(&live), true, Some(6)), Err(Refusal::StaleToken));
        assert_eq!(check(Some(&live), false, None), Err(Refusal::Held));
        assert_eq!(check(Some(&lapsed), true, Some(6)), Err(Refusal::Expired));
        assert_eq!(check(Some(&lapsed), false, None), Err(Refusal::NotHeld));
        assert_eq!(check(None, true, None), Err(Refusal::NotHeld));
    }
}
