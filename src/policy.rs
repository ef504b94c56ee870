//! What holds of a kind may do: the settings, and for kinds that have a row in `softlock.policies` what
//! that says instead. The rows are remembered until one is written.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::error::Error;
use crate::names::{Resource, Ttl};
use crate::pg::{Timestamp, policies};
use crate::settings;

/// A row of `softlock.policies`: times in microseconds; what is `None` is left to the settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    pub default_ttl: Option<i64>,
    pub max_ttl: Option<i64>,
    pub max_hold: Option<i64>,
    pub max_per_owner: Option<i32>,
}

/// What a call may take a resource on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// Time to live, in microseconds.
    ttl: i64,
    /// The longest time from grant to expiry.
    max_hold: Option<i64>,
    /// The most locks of the kind that an owner may have.
    pub max_per_owner: Option<i32>,
}

impl Terms {
    /// When a hold lapses that was granted at `acquired_at` and is prolonged at `t`, and whether that is
    /// sooner than asked, since nothing is held for longer.
    pub fn expiry(&self, acquired_at: Timestamp, t: Timestamp) -> (Timestamp, bool) {
        let asked = t.plus_micros(self.ttl);
        match self
            .max_hold
            .map(|longest| acquired_at.plus_micros(longest))
        {
            Some(cap) if cap < asked => (cap, true),
            _ => (asked, false),
        }
    }
}

/// Policies by kind.
pub type Policies = HashMap<Box<[u8]>, Policy>;

thread_local! {
    /// The policies, as of the state in which the table was when they were read.
    static KNOWN: RefCell<(Option<u64>, Policies)> = RefCell::default();
}

const SECOND: i64 = 1_000_000;

/// The terms for a resource, with the time to live that was given, if one was.
pub fn terms(known: &Known, resource: &Resource, ttl: Option<Ttl>) -> Result<Terms, Error> {
    let policy = known.of_kind(resource.kind());
    let (max_ttl, source) = match policy.max_ttl {
        Some(max_ttl) => (max_ttl, "softlock.policies"),
        None => (
            i64::from(settings::max_ttl_s()) * SECOND,
            "softlock.max_ttl",
        ),
    };
    let ttl = match ttl {
        Some(ttl) => ttl.within(max_ttl, source)?,
        None => {
            let default = policy.default_ttl;
            let ttl = default.unwrap_or(i64::from(settings::default_ttl_s()) * SECOND);
            if ttl > max_ttl {
                return Err(Error::DefaultTtlAboveMax {
                    default_s: ttl / SECOND,
                    max_s: max_ttl / SECOND,
                    by_policy: policy.default_ttl.is_some() || policy.max_ttl.is_some(),
                });
            }
            ttl
        }
    };
    Ok(Terms {
        ttl,
        max_hold: policy.max_hold.or_else(settings::max_hold_micros),
        max_per_owner: policy.max_per_owner,
    })
}

/// How many locks of its kind an owner may have; `None` for any number.
pub fn max_per_owner(resource: &Resource) -> Result<Option<i32>, Error> {
    Ok(Known::now()?.of_kind(resource.kind()).max_per_owner)
}

/// The policies as they were when a call began. `make bench` counts what is spent in its functions.
pub struct Known(());

impl Known {
    /// Hears of what has been committed.
    #[inline(never)]
    pub fn now() -> Result<Known, Error> {
        KNOWN.with_borrow_mut(|(state, policies)| {
            let now = policies::state();
            if *state != Some(now) {
                // Where the table is locked, what was known stands: who has it has not committed.
                match policies::read() {
                    Ok(rows) => {
                        *policies = rows;
                        *state = Some(now);
                    }
                    Err(Error::TableLocked) if state.is_some() => (),
                    Err(error) => return Err(error),
                }
            }
            Ok(Known(()))
        })
    }

    /// The policy of a kind; without one, everything is left to the settings.
    #[inline(never)]
    fn of_kind(&self, kind: &[u8]) -> Policy {
        KNOWN.with_borrow(|(_, policies)| match policies.is_empty() {
            true => Policy::default(),
            false => policies.get(kind).copied().unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timestamp = Timestamp::from_raw(100);

    fn terms(max_hold: Option<i64>) -> Terms {
        Terms {
            ttl: 50,
            max_hold,
            max_per_owner: None,
        }
    }

    #[test]
    fn a_hold_lapses_a_ttl_from_now_and_never_past_its_longest_time() {
        let granted = Timestamp::from_raw(60);
        let at = |micros, capped| (Timestamp::from_raw(micros), capped);
        assert_eq!(terms(None).expiry(granted, T), at(150, false));
        assert_eq!(terms(Some(90)).expiry(granted, T), at(150, false));
        assert_eq!(terms(Some(89)).expiry(granted, T), at(149, true));
        assert_eq!(terms(Some(1)).expiry(granted, T), at(61, true));
    }
}
