//! A row of `softlock.locks`, and the decision about it.

use pgrx::pg_sys;

use crate::names::{Metadata, Owner, Session, Ttl};
use crate::pg::{self, Jsonb, Place, Timestamp};

/// A hold on a resource, live or lapsed.
#[derive(Debug, Clone)]
pub struct Lock {
    pub owner: String,
    pub session: Option<String>,
    pub token: i64,
    pub role: pg_sys::Oid,
    pub metadata: Option<Jsonb>,
    pub acquired_at: Timestamp,
    pub expires_at: Timestamp,
    /// Where it is, if it was looked up alone.
    pub place: Option<Place>,
}

impl Lock {
    /// The one boundary, everywhere: `expires_at > clock_timestamp()`.
    pub fn is_live(&self, t: Timestamp) -> bool {
        self.expires_at > t
    }

    /// Whether this is the very row that was seen before: every grant and move has a new token,
    /// every renewal a new expiry.
    pub fn is_same_as(&self, seen: &Lock) -> bool {
        (self.token, self.expires_at) == (seen.token, seen.expires_at)
    }
}

/// Who calls: the owner named in the call, and the role of the session.
#[derive(Debug, Clone)]
pub struct Caller {
    pub owner: Owner,
    pub role: pg_sys::Oid,
}

impl Caller {
    pub fn new(owner: Owner) -> Self {
        Caller {
            owner,
            role: pg::outer_role(),
        }
    }

    /// Whether the lock, live or lapsed, was taken by this owner in a role the caller acts for.
    pub fn holds(&self, lock: &Lock) -> bool {
        self.owner.as_str() == lock.owner && pg::has_privileges_of(self.role, lock.role)
    }
}

/// What a caller asks for a resource.
#[derive(Debug, Clone)]
pub struct Claim {
    pub caller: Caller,
    pub session: Option<Session>,
    pub metadata: Option<Metadata>,
    pub ttl: Ttl,
}

impl Claim {
    /// What the row becomes at `t` by a decision about the one seen. A grant and a move draw a token.
    pub fn apply(
        &self,
        decision: Decision,
        seen: Option<&Lock>,
        t: Timestamp,
        draw_token: impl FnOnce() -> i64,
    ) -> Lock {
        let session = self.session.as_ref().map(|s| s.as_str().to_owned());
        let metadata = self.metadata.as_ref().map(|m| m.as_jsonb().clone());
        let expires_at = self.ttl.after(t);
        match (decision, seen) {
            (Decision::Renew | Decision::Move, Some(seen)) => {
                let (session, token) = match decision {
                    Decision::Move => (session, draw_token()),
                    _ => (seen.session.clone(), seen.token),
                };
                Lock {
                    owner: seen.owner.clone(),
                    session,
                    token,
                    role: seen.role,
                    metadata: metadata.or_else(|| seen.metadata.clone()),
                    acquired_at: seen.acquired_at,
                    expires_at: seen.expires_at.max(expires_at),
                    place: None,
                }
            }
            _ => Lock {
                owner: self.caller.owner.as_str().to_owned(),
                session,
                token: draw_token(),
                role: self.caller.role,
                metadata,
                acquired_at: t,
                expires_at,
                place: None,
            },
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
            Some(session) if lock.session.as_deref() != Some(session.as_str()) => Decision::Move,
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

/// Whether the caller holds the resource at `t`, with `token` where one is given.
pub fn verify(
    current: Option<&Lock>,
    is_holder: impl FnOnce(&Lock) -> bool,
    token: Option<i64>,
    t: Timestamp,
) -> Result<(), Refusal> {
    let Some(lock) = current else {
        return Err(Refusal::NotHeld);
    };
    match (is_holder(lock), lock.is_live(t)) {
        (false, true) => Err(Refusal::Held),
        (false, false) => Err(Refusal::NotHeld),
        (true, false) => Err(Refusal::Expired),
        (true, true) if token.is_some_and(|token| token != lock.token) => Err(Refusal::StaleToken),
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
            role: pg_sys::Oid::from(10),
            metadata: None,
            acquired_at: Timestamp::from_raw(0),
            expires_at: Timestamp::from_raw(expires_at),
            place: None,
        }
    }

    fn decision(lock: Option<Lock>, is_holder: bool, session: Option<&str>) -> Decision {
        let session = Session::parse(session).unwrap();
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
        let check =
            |lock: Option<&Lock>, is_holder: bool, token| verify(lock, |_| is_holder, token, T);
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
