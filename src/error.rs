//! Every error and warning softlock raises, and the only place that picks SQLSTATE, DETAIL and HINT.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, function_name};

use crate::pg::Timestamp;

/// What can be wrong with a call. Outcomes such as `held` are answers, not errors, except where the
/// transaction must not go on: consume and guard.
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
        hint: Option<&'static str>,
    },
    /// `softlock.default_ttl` is longer than `softlock.max_ttl`, and no ttl was given.
    DefaultTtlAboveMax { default_s: i32, max_s: i32 },
    /// Metadata that is JSON but not an object.
    MetadataNotObject { kind: &'static str },
    /// A count that must be at least one.
    NotPositive { argument: &'static str, given: i32 },
    /// More resources in one call than are allowed.
    TooMany { given: usize, max: usize },
    /// Tokens that do not go with the resources one to one.
    TokenCount { tokens: usize, resources: usize },
    /// A wait in a transaction that could not see what it waits for.
    WaitIsolation,
    /// A row under an old snapshot: the caller's transaction has to be run again.
    Serialization { resource: String },
    /// A sale of what the seller does not hold.
    NotHeld {
        owner: String,
        failures: Vec<Failure>,
    },
    /// A write to a row whose resource somebody else holds.
    GuardHeld {
        resource: String,
        owner: String,
        expires_at: Timestamp,
    },
    /// A write to a row whose resource nobody holds, where a lock is required.
    GuardNotLocked { resource: String },
    /// A trigger that was not declared as `softlock_guard` needs it.
    GuardDeclaration { problem: String },
    /// A table on which there is more than softlock heeds.
    TableAltered,
    /// The server has no launcher.
    NotPreloaded,
    /// There is no worker to sweep with.
    NoWorkerSlot,
}

/// A resource that is not held, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub resource: String,
    /// `not_held`, `expired`, `held` or `stale_token`.
    pub reason: &'static str,
    /// Who holds it, and until when, where it is somebody else.
    pub holder: Option<(String, Timestamp)>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\": {}", self.resource, self.reason)?;
        if let Some((owner, until)) = &self.holder {
            write!(f, " by \"{owner}\" until {until}")?;
        }
        Ok(())
    }
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
            | Error::NotPositive { .. }
            | Error::TokenCount { .. } => ERRCODE_INVALID_PARAMETER_VALUE,
            Error::TooMany { .. } => ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            Error::WaitIsolation => ERRCODE_FEATURE_NOT_SUPPORTED,
            Error::Serialization { .. } => ERRCODE_T_R_SERIALIZATION_FAILURE,
            Error::NotHeld { .. } | Error::GuardHeld { .. } | Error::GuardNotLocked { .. } => {
                ERRCODE_LOCK_NOT_AVAILABLE
            }
            Error::GuardDeclaration { .. } => ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
            Error::TableAltered => ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Error::NotPreloaded => ERRCODE_CONFIG_FILE_ERROR,
            Error::NoWorkerSlot => ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
        }
    }

    fn message(&self) -> String {
        match self {
            Error::Null { argument } => format!("{argument} must not be null"),
            Error::Length {
                argument, bytes: 0, ..
            } => format!("{argument} must not be empty"),
            Error::Length { argument, .. } => format!("{argument} is too long"),
            Error::Duration { argument, .. } | Error::NotPositive { argument, .. } => {
                format!("{argument} is out of bounds")
            }
            Error::DefaultTtlAboveMax { .. } => {
                "softlock.default_ttl is longer than softlock.max_ttl".into()
            }
            Error::MetadataNotObject { .. } => "metadata must be a JSON object".into(),
            Error::TooMany { .. } => "too many resources in one call".into(),
            Error::TokenCount { .. } => "tokens must have one element per resource".into(),
            Error::WaitIsolation => "wait needs the isolation level READ COMMITTED".into(),
            Error::Serialization { .. } => {
                "could not serialize access due to concurrent update".into()
            }
            Error::NotHeld { owner, failures } => match failures.as_slice() {
                [one] => format!("\"{}\" is not held by \"{owner}\"", one.resource),
                more => format!("{} resources are not held by \"{owner}\"", more.len()),
            },
            Error::GuardHeld {
                resource, owner, ..
            } => {
                format!("\"{resource}\" is held by \"{owner}\"")
            }
            Error::GuardNotLocked { resource } => format!("\"{resource}\" is not locked"),
            Error::GuardDeclaration { problem } => format!("softlock_guard {problem}"),
            Error::TableAltered => "softlock.locks has been altered".into(),
            Error::NotPreloaded => "softlock is not preloaded: locks lapse on time, but nothing \
                                    sweeps them by itself"
                .into(),
            Error::NoWorkerSlot => {
                "softlock could not start a worker to sweep expired locks".into()
            }
        }
    }

    fn detail(&self) -> Option<String> {
        Some(match self {
            Error::Null { .. }
            | Error::WaitIsolation
            | Error::GuardDeclaration { .. }
            | Error::NotPreloaded => return None,
            Error::Length { bytes, max, .. } => {
                format!("The value has {bytes} bytes; 1 to {max} are allowed.")
            }
            Error::Duration { given, bound, .. } => {
                format!("The value is {given}; it must be {bound}.")
            }
            Error::DefaultTtlAboveMax { default_s, max_s } => format!(
                "No ttl was given; softlock.default_ttl is {default_s} s, softlock.max_ttl {max_s} s."
            ),
            Error::MetadataNotObject { kind } => format!("The value is {kind}."),
            Error::NotPositive { given, .. } => {
                format!("The value is {given}; it must be at least 1.")
            }
            Error::TooMany { given, max } => {
                format!("The call names {given} resources; at most {max} are allowed.")
            }
            Error::TokenCount { tokens, resources } => {
                format!("The call has {tokens} tokens for {resources} resources.")
            }
            Error::Serialization { resource } => {
                format!("The lock on \"{resource}\" changed after this transaction's snapshot.")
            }
            Error::NotHeld { failures, .. } => failures
                .iter()
                .map(Failure::to_string)
                .collect::<Vec<_>>()
                .join("; "),
            Error::GuardHeld {
                owner, expires_at, ..
            } => {
                format!("The lock of \"{owner}\" expires at {expires_at}.")
            }
            Error::TableAltered => "It has a trigger, a check constraint, or an index with an \
                                    expression or a predicate, which softlock would not heed."
                .into(),
            Error::GuardNotLocked { .. } => "The table's trigger requires a lock to write.".into(),
            Error::NoWorkerSlot => {
                "All worker slots are in use; softlock tries again at its next sweep.".into()
            }
        })
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Error::DefaultTtlAboveMax { .. } => Some("Pass a ttl, or lower softlock.default_ttl."),
            Error::Duration { hint, .. } => *hint,
            Error::MetadataNotObject { .. } => {
                Some("Wrap the value, for example {\"label\": \"till 3\"}.")
            }
            Error::TooMany { .. } => Some("Split the call."),
            Error::WaitIsolation => {
                Some("Leave wait at 0, or begin the transaction with READ COMMITTED.")
            }
            Error::Serialization { .. } => Some("Run the transaction again."),
            Error::NotHeld { .. } => {
                Some("Roll back; take the resources again before selling them.")
            }
            Error::GuardHeld { .. } => {
                Some("The holder writes after SET LOCAL softlock.owner = '<owner>'.")
            }
            Error::GuardNotLocked { .. } => Some(
                "Take it with softlock_acquire, and SET LOCAL softlock.owner to the same owner.",
            ),
            Error::GuardDeclaration { .. } => Some(
                "CREATE TRIGGER … BEFORE UPDATE OR DELETE ON … FOR EACH ROW EXECUTE FUNCTION \
                 softlock_guard('prefix:', 'key_column' [, 'require'])",
            ),
            Error::TableAltered => Some("Drop it."),
            Error::NotPreloaded => {
                Some("Add to postgresql.conf and restart: shared_preload_libraries = 'softlock'")
            }
            Error::NoWorkerSlot => Some("Consider increasing max_worker_processes."),
            _ => None,
        }
    }

    /// Reports it as a warning; the statement goes on.
    pub fn warn(self) {
        ErrorReport::from(self).report(PgLogLevel::WARNING);
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
