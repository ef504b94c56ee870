//! Every error softlock raises, and the only place that picks SQLSTATE, DETAIL and HINT.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgSqlErrorCode, function_name};

/// What can be wrong with a call. Outcomes such as `held` are answers, not errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// A NULL where it has no meaning.
    Null { argument: &'static str },
    /// A value whose length in bytes is out of bounds.
    Length {
        argument: &'static str,
        bytes: usize,
        max: usize,
    },
    /// A duration that is infinite, zero or below where that makes no sense, or too long.
    Duration {
        argument: &'static str,
        given: String,
        bound: String,
    },
    /// `softlock.default_ttl` is longer than `softlock.max_ttl`, and no ttl was given.
    DefaultTtlAboveMax { default_s: i32, max_s: i32 },
    /// Metadata that is JSON but not an object.
    MetadataNotObject { kind: &'static str },
    /// A count that must be at least one.
    NotPositive { argument: &'static str, given: i32 },
    /// `wait` is given; waiting comes in a later version.
    WaitUnsupported,
    /// A row under an old snapshot: the caller's transaction has to be run again.
    Serialization { resource: String },
}

impl Error {
    fn code(&self) -> PgSqlErrorCode {
        use PgSqlErrorCode::*;
        match self {
            Error::Null { .. } => ERRCODE_NULL_VALUE_NOT_ALLOWED,
            Error::Length { .. }
            | Error::Duration { .. }
            | Error::DefaultTtlAboveMax { .. }
            | Error::MetadataNotObject { .. }
            | Error::NotPositive { .. } => ERRCODE_INVALID_PARAMETER_VALUE,
            Error::WaitUnsupported => ERRCODE_FEATURE_NOT_SUPPORTED,
            Error::Serialization { .. } => ERRCODE_T_R_SERIALIZATION_FAILURE,
        }
    }

    fn message(&self) -> String {
        match self {
            Error::Null { argument } => format!("{argument} must not be null"),
            Error::Length {
                argument, bytes: 0, ..
            } => format!("{argument} must not be empty"),
            Error::Length { argument, .. } => format!("{argument} is too long"),
            Error::Duration { argument, .. } => format!("{argument} is out of bounds"),
            Error::DefaultTtlAboveMax { .. } => {
                "softlock.default_ttl is longer than softlock.max_ttl".into()
            }
            Error::MetadataNotObject { .. } => "metadata must be a JSON object".into(),
            Error::NotPositive { argument, .. } => format!("{argument} is out of bounds"),
            Error::WaitUnsupported => "wait is not supported yet".into(),
            Error::Serialization { .. } => {
                "could not serialize access due to concurrent update".into()
            }
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            Error::Null { .. } | Error::WaitUnsupported => None,
            Error::Length { bytes, max, .. } => Some(format!(
                "The value has {bytes} bytes; 1 to {max} are allowed."
            )),
            Error::Duration { given, bound, .. } => {
                Some(format!("The value is {given}; it must be {bound}."))
            }
            Error::DefaultTtlAboveMax { default_s, max_s } => Some(format!(
                "No ttl was given; softlock.default_ttl is {default_s} s, softlock.max_ttl is {max_s} s."
            )),
            Error::MetadataNotObject { kind } => Some(format!("The value is {kind}.")),
            Error::NotPositive { given, .. } => {
                Some(format!("The value is {given}; it must be at least 1."))
            }
            Error::Serialization { resource } => Some(format!(
                "The lock on \"{resource}\" changed after this transaction's snapshot."
            )),
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Error::DefaultTtlAboveMax { .. } => {
                Some("Pass a ttl, or lower softlock.default_ttl.".into())
            }
            Error::Duration {
                argument: "ttl", ..
            } => Some("A superuser can raise softlock.max_ttl.".into()),
            Error::MetadataNotObject { .. } => {
                Some("Wrap the value, for example {\"label\": \"till 3\"}.".into())
            }
            Error::WaitUnsupported => Some("Leave wait at its default of 0.".into()),
            Error::Serialization { .. } => Some("Run the transaction again.".into()),
            _ => None,
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message())
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> ErrorReport {
        let mut report = ErrorReport::new(error.code(), error.message(), function_name!());
        if let Some(detail) = error.detail() {
            report = report.set_detail(detail);
        }
        if let Some(hint) = error.hint() {
            report = report.set_hint(hint);
        }
        report
    }
}
