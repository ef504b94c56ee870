//! Points in time: PostgreSQL's microseconds, chrono's RFC 3339.

use chrono::{DateTime, SecondsFormat, Utc};
use pgrx::datum::TimestampWithTimeZone;
use pgrx::pg_sys;
use serde::{Serialize, Serializer};

/// Seconds from 1970-01-01 to 2000-01-01, where PostgreSQL's clock starts.
const POSTGRES_EPOCH_S: i64 = 946_684_800;

/// A `timestamptz`: microseconds since 2000-01-01 00:00 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The time now, not the transaction's start: `clock_timestamp()`.
    pub fn now() -> Self {
        // SAFETY: reads the system's clock.
        Timestamp(unsafe { pg_sys::GetCurrentTimestamp() })
    }

    pub const fn from_raw(micros: i64) -> Self {
        Timestamp(micros)
    }

    pub fn raw(self) -> i64 {
        self.0
    }

    pub fn plus_micros(self, micros: i64) -> Self {
        Timestamp(self.0.saturating_add(micros))
    }

    /// Microseconds from `earlier` to this time; negative when it is the earlier one.
    pub fn micros_since(self, earlier: Timestamp) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// RFC 3339 in UTC with microseconds: `2026-03-08T09:30:00.000000Z`.
impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unix = self.0.saturating_add(POSTGRES_EPOCH_S * 1_000_000);
        let utc = DateTime::<Utc>::from_timestamp_micros(unix).ok_or(std::fmt::Error)?;
        f.write_str(&utc.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl From<Timestamp> for TimestampWithTimeZone {
    fn from(t: Timestamp) -> Self {
        // Only years past 294276 are out of range; a time to live is at most 24 days past now.
        TimestampWithTimeZone::try_from(t.0).expect("a timestamp near now is in range")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_read_as_rfc_3339_in_utc_with_microseconds() {
        let json = |micros| serde_json::to_string(&Timestamp(micros)).unwrap();
        assert_eq!(json(0), r#""2000-01-01T00:00:00.000000Z""#);
        assert_eq!(json(86_400_000_001), r#""2000-01-02T00:00:00.000001Z""#);
        assert_eq!(json(-1), r#""1999-12-31T23:59:59.999999Z""#);
    }
}
