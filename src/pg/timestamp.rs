//! Points in time: PostgreSQL's microseconds, chrono's RFC 3339.

use chrono::{DateTime, Datelike, Timelike, Utc};

unsafe extern "C-unwind" {
    /// Raises no error, and each decision reads the clock: without pgrx's guard, which costs more than the
    /// call.
    safe fn GetCurrentTimestamp() -> i64;
}

/// Seconds from 1970-01-01 to 2000-01-01, where PostgreSQL's clock starts.
const POSTGRES_EPOCH_S: i64 = 946_684_800;

/// A `timestamptz`: microseconds since 2000-01-01 00:00 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The time now, not the transaction's start: `clock_timestamp()`.
    pub fn now() -> Self {
        Timestamp(GetCurrentTimestamp())
    }

    /// Before all times.
    pub const EARLIEST: Self = Timestamp(i64::MIN);

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

impl Timestamp {
    /// RFC 3339 in UTC with microseconds: `2026-03-08T09:30:00.000000Z`.
    pub fn to_rfc3339(self) -> Vec<u8> {
        let unix = self.0.saturating_add(POSTGRES_EPOCH_S * 1_000_000);
        // Only years past 262,142 are out of range; a time to live is at most some decades past now.
        let utc = DateTime::<Utc>::from_timestamp_micros(unix).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let mut text = Vec::with_capacity(27);
        let mut put = |mut number: u32, digits: usize, end: u8| {
            let mut written = [0; 6];
            for digit in written[..digits].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
            text.extend_from_slice(&written[..digits]);
            text.push(end);
        };
        let year = utc.year().unsigned_abs();
        put(year, if year > 9999 { 6 } else { 4 }, b'-');
        put(utc.month(), 2, b'-');
        put(utc.day(), 2, b'T');
        put(utc.hour(), 2, b':');
        put(utc.minute(), 2, b':');
        put(utc.second(), 2, b'.');
        put(utc.nanosecond() / 1000, 6, b'Z');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_read_as_rfc_3339_in_utc_with_microseconds() {
        let text = |micros| String::from_utf8(Timestamp(micros).to_rfc3339()).unwrap();
        assert_eq!(text(0), "2000-01-01T00:00:00.000000Z");
        assert_eq!(text(86_400_000_001), "2000-01-02T00:00:00.000001Z");
        assert_eq!(text(-1), "1999-12-31T23:59:59.999999Z");
    }
}
