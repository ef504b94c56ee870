//! Arguments, parsed once at the door and valid ever after.

use std::time::Duration;

use pgrx::datum::Interval;

use crate::error::Error;
use crate::pg::{Jsonb, Kind, RawJsonb, RawText};
use crate::settings;
use crate::text::Text;

/// A text argument of bounded length.
macro_rules! name {
    ($(#[$meta:meta])* $name:ident, $argument:literal, $max:literal) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Text);

        impl $name {
            /// The argument, where it is given, if it has a length that is allowed and is valid text.
            pub fn parse_optional(value: Option<RawText>) -> Result<Option<Self>, Error> {
                value.map(|value| bounded($argument, &value, $max).map($name)).transpose()
            }

            pub fn as_text(&self) -> &Text {
                &self.0
            }
        }
    };
}

name! {
    /// What is locked: 1 to 1024 bytes, compared byte by byte.
    Resource, "resource", 1024
}
name! {
    /// Who holds a lock: 1 to 256 bytes.
    Owner, "owner", 256
}
name! {
    /// A grouping of an owner's locks, as a cart: 1 to 256 bytes.
    Session, "session", 256
}
name! {
    /// What resources begin with: 1 to 1024 bytes.
    Prefix, "prefix", 1024
}
name! {
    /// Why a lock is broken: 1 to 1024 bytes.
    Reason, "reason", 1024
}

/// The text, when it is between 1 and `max` bytes long and valid.
pub fn bounded(argument: &'static str, value: &RawText, max: usize) -> Result<Text, Error> {
    let bytes = value.as_bytes();
    check_length(argument, bytes.len(), max)?;
    match value.is_valid() {
        true => Ok(Text::from(bytes)),
        false => Err(Error::InvalidText { argument }),
    }
}

fn check_length(argument: &'static str, bytes: usize, max: usize) -> Result<(), Error> {
    match bytes {
        0 => Err(Error::Length {
            argument,
            bytes,
            max,
        }),
        bytes if bytes > max => Err(Error::Length {
            argument,
            bytes,
            max,
        }),
        _ => Ok(()),
    }
}

impl Resource {
    pub const MAX_BYTES: usize = 1024;

    pub fn parse(value: Option<RawText>) -> Result<Self, Error> {
        let null = Error::Null {
            argument: "resource",
        };
        Self::parse_optional(value)?.ok_or(null)
    }

    /// A resource that is in the table, and so has been parsed before; or that a guard has put together
    /// of valid texts: `None` where nobody could hold it.
    pub fn from_text(text: Text) -> Option<Self> {
        (1..=Self::MAX_BYTES)
            .contains(&text.as_bytes().len())
            .then_some(Resource(text))
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// What stands before the first colon; empty where there is none.
    pub fn kind(&self) -> &[u8] {
        kind_of(self.as_bytes())
    }
}

/// What stands before the first colon of a resource's name; empty where there is none.
pub fn kind_of(resource: &[u8]) -> &[u8] {
    let colon = resource.iter().position(|&byte| byte == b':');
    &resource[..colon.unwrap_or(0)]
}

impl Owner {
    pub fn parse(value: Option<RawText>) -> Result<Self, Error> {
        let null = Error::Null { argument: "owner" };
        Self::parse_optional(value)?.ok_or(null)
    }

    /// The owner that a setting names; `None` where nobody could have that name.
    pub fn from_text(text: Text) -> Option<Self> {
        (1..=256)
            .contains(&text.as_bytes().len())
            .then_some(Owner(text))
    }
}

/// Time to live as a call gives it, in microseconds; `None` inside for an infinite one. What its kind
/// allows is known to `policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ttl(Option<i128>);

/// What people should see about a hold: a JSON object of at most 8 KiB.
#[derive(Debug, Clone)]
pub struct Metadata(Jsonb);

/// An interval as a number of microseconds, with days of 24 hours and months of 30 days as
/// PostgreSQL compares intervals; `None` when it is infinite (PostgreSQL 17 and above).
pub fn interval_micros(interval: &Interval) -> Option<i128> {
    let (months, days, micros) = (interval.months(), interval.days(), interval.micros());
    let infinite = (months, days, micros) == (i32::MAX, i32::MAX, i64::MAX)
        || (months, days, micros) == (i32::MIN, i32::MIN, i64::MIN);
    const DAY: i128 = 86_400_000_000;
    (!infinite).then(|| (i128::from(months) * 30 + i128::from(days)) * DAY + i128::from(micros))
}

/// Microseconds as a person reads them: `90 s`, `0.5 s`.
pub fn seconds(micros: Option<i128>) -> String {
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
    /// The given time to live; `None` for NULL, which leaves it to the kind and the settings.
    pub fn parse_optional(value: Option<Interval>) -> Option<Self> {
        value.map(|interval| Ttl(interval_micros(&interval)))
    }

    /// It in microseconds, if it is positive and at most `max`, which `source` sets.
    pub fn within(self, max: i64, source: &'static str) -> Result<i64, Error> {
        match self.0 {
            Some(micros) if micros > 0 && micros <= i128::from(max) => Ok(micros as i64),
            given => Err(Error::Duration {
                argument: "ttl",
                given: seconds(given),
                bound: format!(
                    "positive and at most {} ({source})",
                    seconds(Some(max.into()))
                ),
                hint: given
                    .is_some_and(|micros| micros > 0)
                    .then_some(match source {
                        "softlock.max_ttl" => "A superuser can raise softlock.max_ttl.",
                        _ => "Whoever may write softlock.policies can raise the kind's max_ttl.",
                    }),
            }),
        }
    }
}

impl Metadata {
    pub const MAX_BYTES: usize = 8192;

    pub fn parse(value: Option<RawJsonb>) -> Result<Option<Self>, Error> {
        let Some(json) = value else { return Ok(None) };
        let (kind, bytes) = json.describe();
        let kind = match kind {
            Kind::Object => None,
            Kind::Array => Some("an array"),
            Kind::String => Some("a string"),
            Kind::Boolean => Some("a boolean"),
            Kind::Null => Some("null"),
            Kind::Number => Some("a number"),
        };
        if let Some(kind) = kind {
            return Err(Error::MetadataNotObject { kind });
        }
        check_length("metadata", bytes, Self::MAX_BYTES)?;
        Ok(Some(Metadata(json.to_owned())))
    }

    pub fn as_jsonb(&self) -> &Jsonb {
        &self.0
    }
}

/// How long to wait: zero, or positive and at most `softlock.max_wait`.
pub fn wait(value: Option<Interval>) -> Result<Duration, Error> {
    let interval = value.ok_or(Error::Null { argument: "wait" })?;
    wait_within(interval_micros(&interval), settings::max_wait_s())
}

fn wait_within(micros: Option<i128>, max_s: i32) -> Result<Duration, Error> {
    match micros.map(u64::try_from) {
        Some(Ok(micros)) if micros <= max_s as u64 * 1_000_000 => Ok(Duration::from_micros(micros)),
        _ => Err(Error::Duration {
            argument: "wait",
            given: seconds(micros),
            bound: format!("0 to {max_s} s (softlock.max_wait)"),
            hint: micros
                .is_some_and(|micros| micros > 0)
                .then_some("A superuser can raise softlock.max_wait."),
        }),
    }
}

/// How long ago, in microseconds: zero or more.
pub fn age(argument: &'static str, value: &Interval) -> Result<i64, Error> {
    let micros = interval_micros(value);
    match micros.map(i64::try_from) {
        Some(Ok(micros)) if micros >= 0 => Ok(micros),
        _ => Err(Error::Duration {
            argument,
            given: seconds(micros),
            bound: "zero or positive, and finite".into(),
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

/// As the tests write them.
#[cfg(test)]
impl Resource {
    pub fn of(value: &str) -> Self {
        Resource(Text::from(value))
    }
}

#[cfg(test)]
impl Session {
    pub fn of(value: &str) -> Self {
        Session(Text::from(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_at_least_one_byte_and_at_most_so_many() {
        let length = |bytes| Error::Length {
            argument: "resource",
            bytes,
            max: 1024,
        };
        assert_eq!(check_length("resource", 1, 1024), Ok(()));
        assert_eq!(check_length("resource", 1024, 1024), Ok(()));
        assert_eq!(check_length("resource", 0, 1024), Err(length(0)));
        assert_eq!(check_length("resource", 1025, 1024), Err(length(1025)));
    }

    #[test]
    fn resources_sort_by_their_bytes() {
        assert!(Resource::of("Z") < Resource::of("a"));
        assert!(Resource::of("a") < Resource::of("é"));
    }

    #[test]
    fn a_ttl_is_positive_finite_and_within_the_maximum() {
        let within = |micros| Ttl(micros).within(10_000_000, "softlock.max_ttl");
        assert_eq!(within(Some(1)), Ok(1));
        assert_eq!(within(Some(10_000_000)), Ok(10_000_000));
        for refused in [
            None,
            Some(0),
            Some(-1),
            Some(10_000_001),
            Some(i128::from(i64::MAX) * 9),
        ] {
            assert!(within(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_wait_is_zero_or_positive_and_at_most_the_maximum() {
        assert_eq!(wait_within(Some(0), 60), Ok(Duration::ZERO));
        assert_eq!(
            wait_within(Some(1_500), 60),
            Ok(Duration::from_micros(1_500))
        );
        for refused in [None, Some(-1), Some(60_000_001)] {
            assert!(wait_within(refused, 60).is_err(), "{refused:?}");
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
