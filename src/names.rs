//! Arguments, parsed once at the door and valid ever after.

use std::time::Duration;

use pgrx::datum::Interval;

use crate::error::Error;
use crate::pg::{Jsonb, Timestamp};
use crate::settings;

/// What is locked: 1 to 1024 bytes, compared byte by byte.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource(String);

/// Who holds a lock: 1 to 256 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner(String);

/// A grouping of an owner's locks, as a cart: 1 to 256 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session(String);

/// Time to live: positive and at most `softlock.max_ttl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl {
    micros: i64,
}

/// What people should see about a hold: a JSON object of at most 8 KiB.
#[derive(Debug, Clone)]
pub struct Metadata(Jsonb);

/// The text, when it is there and between 1 and `max` bytes long.
fn bounded(argument: &'static str, value: &str, max: usize) -> Result<String, Error> {
    match value.len() {
        bytes if bytes == 0 || bytes > max => Err(Error::Length {
            argument,
            bytes,
            max,
        }),
        _ => Ok(value.to_owned()),
    }
}

impl Resource {
    pub fn parse(value: Option<&str>) -> Result<Self, Error> {
        let value = value.ok_or(Error::Null {
            argument: "resource",
        })?;
        bounded("resource", value, 1024).map(Resource)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Owner {
    pub fn parse(value: Option<&str>) -> Result<Self, Error> {
        let value = value.ok_or(Error::Null { argument: "owner" })?;
        bounded("owner", value, 256).map(Owner)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Session {
    pub fn parse(value: Option<&str>) -> Result<Option<Self>, Error> {
        value
            .map(|value| bounded("session", value, 256).map(Session))
            .transpose()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An interval as a number of microseconds, with days of 24 hours and months of 30 days as
/// PostgreSQL compares intervals; `None` when it is infinite (PostgreSQL 17 and above).
fn interval_micros(interval: &Interval) -> Option<i128> {
    let (months, days, micros) = (interval.months(), interval.days(), interval.micros());
    let infinite = (months, days, micros) == (i32::MAX, i32::MAX, i64::MAX)
        || (months, days, micros) == (i32::MIN, i32::MIN, i64::MIN);
    const DAY: i128 = 86_400_000_000;
    (!infinite).then(|| (i128::from(months) * 30 + i128::from(days)) * DAY + i128::from(micros))
}

/// Microseconds as a person reads them: `90 s`, `0.5 s`.
fn seconds(micros: Option<i128>) -> String {
    match micros {
        None => "infinite".into(),
        Some(micros) => {
            let fraction = format!("{:06}", micros.unsigned_abs() % 1_000_000);
            let sign = if micros < 0 { "-" } else { "" };
            let whole = micros.unsigned_abs() / 1_000_000;
            format!(
                "{sign}{}",
                format!("{whole}.{fraction}")
                    .trim_end_matches('0')
                    .trim_end_matches('.')
            ) + " s"
        }
    }
}

impl Ttl {
    /// The given time to live, or `softlock.default_ttl` for NULL.
    pub fn parse(value: Option<Interval>) -> Result<Self, Error> {
        let max_s = settings::max_ttl_s();
        let Some(interval) = value else {
            let default_s = settings::default_ttl_s();
            if default_s > max_s {
                return Err(Error::DefaultTtlAboveMax { default_s, max_s });
            }
            return Ok(Ttl {
                micros: i64::from(default_s) * 1_000_000,
            });
        };
        Self::within(interval_micros(&interval), max_s)
    }

    fn within(micros: Option<i128>, max_s: i32) -> Result<Self, Error> {
        match micros {
            Some(micros) if micros > 0 && micros <= i128::from(max_s) * 1_000_000 => Ok(Ttl {
                micros: micros as i64,
            }),
            given => Err(Error::Duration {
                argument: "ttl",
                given: seconds(given),
                bound: format!("positive and at most {max_s} s (softlock.max_ttl)"),
                hint: given
                    .is_some_and(|micros| micros > 0)
                    .then_some("A superuser can raise softlock.max_ttl."),
            }),
        }
    }

    /// When a lock that is taken at `t` lapses.
    pub fn after(self, t: Timestamp) -> Timestamp {
        t.plus_micros(self.micros)
    }
}

impl Metadata {
    pub const MAX_BYTES: usize = 8192;

    pub fn parse(value: Option<Jsonb>) -> Result<Option<Self>, Error> {
        let Some(json) = value else { return Ok(None) };
        let text = json.to_text();
        let kind = match text.as_bytes().first() {
            Some(b'{') => None,
            Some(b'[') => Some("an array"),
            Some(b'"') => Some("a string"),
            Some(b't' | b'f') => Some("a boolean"),
            Some(b'n') => Some("null"),
            _ => Some("a number"),
        };
        if let Some(kind) = kind {
            return Err(Error::MetadataNotObject { kind });
        }
        let bytes = text.len();
        if bytes > Self::MAX_BYTES {
            return Err(Error::Length {
                argument: "metadata",
                bytes,
                max: Self::MAX_BYTES,
            });
        }
        Ok(Some(Metadata(json)))
    }

    pub fn as_jsonb(&self) -> &Jsonb {
        &self.0
    }
}

/// Why a lock is broken: 1 to 1024 bytes.
#[derive(Debug, Clone)]
pub struct Reason(String);

impl Reason {
    pub fn parse(value: Option<&str>) -> Result<Option<Self>, Error> {
        value
            .map(|value| bounded("reason", value, 1024).map(Reason))
            .transpose()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How long to wait: zero, or positive and finite.
pub fn wait(value: Option<Interval>) -> Result<Duration, Error> {
    let interval = value.ok_or(Error::Null { argument: "wait" })?;
    wait_within(interval_micros(&interval))
}

fn wait_within(micros: Option<i128>) -> Result<Duration, Error> {
    const MAX_S: u64 = 86_400;
    match micros.map(u64::try_from) {
        Some(Ok(micros)) if micros <= MAX_S * 1_000_000 => Ok(Duration::from_micros(micros)),
        _ => Err(Error::Duration {
            argument: "wait",
            given: seconds(micros),
            bound: format!("0 to {MAX_S} s"),
            hint: None,
        }),
    }
}

/// A batch size or row limit: at least one.
pub fn positive(argument: &'static str, given: i32) -> Result<i32, Error> {
    if given < 1 {
        Err(Error::NotPositive { argument, given })
    } else {
        Ok(given)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_has_1_to_1024_bytes() {
        assert!(Resource::parse(Some("kit:42")).is_ok());
        assert!(Resource::parse(Some(&"x".repeat(1024))).is_ok());
        let length = |bytes| Error::Length {
            argument: "resource",
            bytes,
            max: 1024,
        };
        assert_eq!(Resource::parse(Some("")), Err(length(0)));
        assert_eq!(Resource::parse(Some(&"x".repeat(1025))), Err(length(1025)));
        assert_eq!(
            Resource::parse(None),
            Err(Error::Null {
                argument: "resource"
            })
        );
    }

    #[test]
    fn lengths_count_bytes_and_not_characters() {
        assert!(Owner::parse(Some(&"ё".repeat(128))).is_ok());
        assert_eq!(
            Owner::parse(Some(&"ё".repeat(129))),
            Err(Error::Length {
                argument: "owner",
                bytes: 258,
                max: 256
            })
        );
    }

    #[test]
    fn a_missing_session_is_none_and_an_empty_one_is_refused() {
        assert_eq!(Session::parse(None), Ok(None));
        assert!(Session::parse(Some("")).is_err());
    }

    #[test]
    fn resources_sort_by_their_bytes() {
        let parse = |name| Resource::parse(Some(name)).unwrap();
        assert!(parse("Z") < parse("a"));
        assert!(parse("a") < parse("é"));
    }

    #[test]
    fn a_ttl_is_positive_finite_and_within_the_maximum() {
        assert_eq!(Ttl::within(Some(1), 10), Ok(Ttl { micros: 1 }));
        assert_eq!(
            Ttl::within(Some(10_000_000), 10),
            Ok(Ttl { micros: 10_000_000 })
        );
        for refused in [
            None,
            Some(0),
            Some(-1),
            Some(10_000_001),
            Some(i128::from(i64::MAX) * 9),
        ] {
            assert!(Ttl::within(refused, 10).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_wait_is_zero_or_positive_and_at_most_a_day() {
        assert_eq!(wait_within(Some(0)), Ok(Duration::ZERO));
        assert_eq!(wait_within(Some(1_500)), Ok(Duration::from_micros(1_500)));
        for refused in [None, Some(-1), Some(86_400_000_001)] {
            assert!(wait_within(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn durations_in_errors_read_as_seconds() {
        assert_eq!(seconds(Some(0)), "0 s");
        assert_eq!(seconds(Some(-1_500_000)), "-1.5 s");
        assert_eq!(seconds(Some(90_000_000)), "90 s");
        assert_eq!(seconds(None), "infinite");
    }
}
