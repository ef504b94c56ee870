//! Every error and warning softlock raises, and the only place that picks SQLSTATE, DETAIL and HINT.

mod adoption;

use crate::pg::{Level, Report, Timestamp};
use crate::text::{Text, text};

pub use adoption::Adoption;

/// What can be wrong with a call. Outcomes such as `held` are answers, not errors, except where the
/// transaction must not go on: consume and guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// A NULL where it has no meaning.
    Null { argument: &'static str },
    /// Bytes that are no text in the database's encoding.
    InvalidText { argument: &'static str },
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
    /// The default time to live is longer than what is allowed, and no ttl was given.
    DefaultTtlAboveMax {
        default_s: i64,
        max_s: i64,
        /// A row of `softlock.policies` says so, not the settings.
        by_policy: bool,
    },
    /// Metadata that is JSON but not an object.
    MetadataNotObject { kind: &'static str },
    /// A count that must be at least one.
    NotPositive { argument: &'static str, given: i32 },
    /// More resources in one call than are allowed.
    TooMany { given: usize, max: usize },
    /// An array with more elements than are looked at.
    TooManyElements {
        argument: &'static str,
        given: usize,
        max: usize,
    },
    /// An array that does not go with the resources one to one.
    ElementCount {
        argument: &'static str,
        given: usize,
        resources: usize,
    },
    /// A resource that is named twice, with different numbers.
    Ambiguous {
        argument: &'static str,
        resource: Text,
    },
    /// A call that would act on everything, as it names nothing.
    NoFilter,
    /// A wait in a transaction that could not see what it waits for.
    WaitIsolation,
    /// A write where nothing can be written.
    ReadOnly { command: &'static str },
    /// A row under an old snapshot: the caller's transaction has to be run again.
    Serialization { resource: Text },
    /// A sale of what the seller does not hold.
    NotHeld { owner: Text, failures: Vec<Failure> },
    /// A write to a row whose resource somebody else holds.
    GuardHeld {
        resource: Text,
        owner: Text,
        expires_at: Timestamp,
    },
    /// A write to a row whose resource nobody holds, where a lock is required.
    GuardNotLocked { resource: Text },
    /// A trigger that was not declared as `softlock_guard` needs it.
    GuardDeclaration { problem: Vec<u8> },
    /// A guard's key column of a type whose text depends on the session's settings.
    GuardKeyType { column: Text, r#type: Text },
    /// Something about a table that is not as the extension made it.
    TableAltered {
        table: &'static str,
        what: Text,
        how: &'static str,
    },
    /// A library and a schema that don't belong together.
    VersionMismatch { schema: String },
    /// A call to a server that is not to decide.
    NotServing,
    /// A function of softlock's where the extension is not.
    NotInstalled,
    /// Somebody has the table locked: VACUUM FULL, an upgrade, DDL.
    TableLocked,
    /// Somebody has the table of the history locked.
    HistoryLocked,
    /// For that reason an event is not in it.
    HistoryMissed { event: &'static str, resource: Text },
    /// The clock's floor has been moved to where no clock has been.
    FloorImplausible,
    /// Nobody is there any more to be told of a grant.
    ClientGone,
    /// A set-returning function where no set can be returned.
    SetNotAllowed,
    /// Nothing is counted where there is no shared memory to count in.
    NoStatistics,
    /// A table that can't be adopted, or not be swept.
    Adoption(Adoption),
    /// The server has no launcher.
    NotPreloaded,
    /// There is no worker to sweep with.
    NoWorkerSlot,
    /// A sweeper did not get into its database in time.
    NotEntered,
    /// A sweeper ended without a word.
    SweeperLost,
}

/// A resource that is not held, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub resource: Text,
    /// `not_held`, `expired`, `held` or `stale_token`.
    pub reason: &'static str,
    /// Who holds it, in which role and until when, where it is somebody else.
    pub holder: Option<(Text, Text, Timestamp)>,
}

impl Failure {
    fn line(&self) -> Vec<u8> {
        let line = text!["\"", self.resource, "\": ", self.reason];
        match &self.holder {
            Some((owner, role, until)) => {
                let until = until.to_rfc3339();
                text![
                    line,
                    " by \"",
                    owner,
                    "\" (role \"",
                    role,
                    "\") until ",
                    until
                ]
            }
            None => line,
        }
    }
}

impl Error {
    fn sqlstate(&self) -> &'static str {
        match self {
            Error::HistoryMissed { .. } => "01000",
            Error::NotHeld { .. } => "SL001",
            Error::GuardHeld { .. } => "SL002",
            Error::GuardNotLocked { .. } => "SL003",
            Error::Adoption(adoption) => adoption.sqlstate(),
            Error::ClientGone => "08006",
            Error::WaitIsolation | Error::SetNotAllowed => "0A000",
            Error::Null { .. } => "22004",
            Error::InvalidText { .. } => "22021",
            Error::Length { .. }
            | Error::Duration { .. }
            | Error::DefaultTtlAboveMax { .. }
            | Error::MetadataNotObject { .. }
            | Error::NotPositive { .. }
            | Error::ElementCount { .. }
            | Error::Ambiguous { .. }
            | Error::NoFilter => "22023",
            Error::ReadOnly { .. } => "25006",
            Error::GuardDeclaration { .. } | Error::GuardKeyType { .. } => "39P01",
            Error::Serialization { .. } => "40001",
            Error::NoWorkerSlot => "53400",
            Error::TooMany { .. } | Error::TooManyElements { .. } => "54000",
            Error::FloorImplausible
            | Error::NoStatistics
            | Error::TableAltered { .. }
            | Error::VersionMismatch { .. }
            | Error::NotServing
            | Error::NotInstalled => "55000",
            Error::TableLocked | Error::HistoryLocked | Error::NotEntered => "55P03",
            Error::SweeperLost => "58000",
            Error::NotPreloaded => "F0000",
        }
    }

    fn message(&self) -> Vec<u8> {
        match self {
            Error::Null { argument } => text![argument, " must not be null"],
            Error::InvalidText { argument } => {
                text![argument, " is not valid text in the database's encoding"]
            }
            Error::Length {
                argument, bytes: 0, ..
            } => text![argument, " must not be empty"],
            Error::Length { argument, .. } => text![argument, " is too long"],
            Error::Duration { argument, .. } | Error::NotPositive { argument, .. } => {
                text![argument, " is out of bounds"]
            }
            Error::DefaultTtlAboveMax {
                by_policy: true, ..
            } => {
                text!["the kind's default time to live is longer than is allowed"]
            }
            Error::DefaultTtlAboveMax { .. } => {
                text!["softlock.default_ttl is longer than softlock.max_ttl"]
            }
            Error::MetadataNotObject { .. } => text!["metadata must be a JSON object"],
            Error::TooMany { .. } => text!["too many resources in one call"],
            Error::TooManyElements { argument, .. } => text![argument, " has too many elements"],
            Error::ElementCount { argument, .. } => {
                text![argument, " must have one element per resource"]
            }
            Error::Ambiguous { argument, resource } => {
                text![
                    "\"",
                    resource,
                    "\" is named twice, with different ",
                    argument
                ]
            }
            Error::NoFilter => text!["softlock_break_all needs at least one filter"],
            Error::ReadOnly { command } => {
                text![
                    "cannot execute ",
                    command,
                    "() in a read-only transaction or on a standby"
                ]
            }
            Error::WaitIsolation => text!["wait needs the isolation level READ COMMITTED"],
            Error::Serialization { .. } => {
                text!["could not serialize access due to concurrent update"]
            }
            Error::NotHeld { owner, failures } => match failures.as_slice() {
                [one] => text!["\"", one.resource, "\" is not held by \"", owner, "\""],
                more => {
                    let count = more.len().to_string();
                    text![count, " resources are not held by \"", owner, "\""]
                }
            },
            Error::GuardHeld {
                resource, owner, ..
            } => text!["\"", resource, "\" is held by \"", owner, "\""],
            Error::GuardNotLocked { resource } => text!["\"", resource, "\" is not locked"],
            Error::GuardDeclaration { problem } => text!["softlock_guard ", problem],
            Error::GuardKeyType { column, .. } => {
                text![
                    "softlock_guard can't take column \"",
                    column,
                    "\" for a key"
                ]
            }
            Error::TableAltered { table, .. } => text!["softlock.", table, " has been altered"],
            Error::VersionMismatch { .. } => {
                text!["softlock's library and its schema are of different versions"]
            }
            Error::NotServing => text!["this server does not decide who holds what"],
            Error::NotInstalled => {
                text!["the extension softlock is not installed in this database"]
            }
            Error::TableLocked => text!["softlock.locks is locked by another transaction"],
            Error::HistoryLocked => text!["softlock.history is locked by another transaction"],
            Error::HistoryMissed { .. } => {
                text!["softlock.history is locked, and lacks what this transaction does to locks"]
            }
            Error::FloorImplausible => {
                text!["the sequence softlock.token has been set far ahead of the time"]
            }
            Error::Adoption(adoption) => adoption.message(),
            Error::ClientGone => text!["connection to client lost"],
            Error::SetNotAllowed => text!["a set is not allowed here"],
            Error::NoStatistics => text!["softlock counts only where it is preloaded"],
            Error::NotPreloaded => text![
                "softlock is not preloaded: locks lapse on time, but nothing sweeps them by itself"
            ],
            Error::NoWorkerSlot => {
                text!["softlock could not start a worker to sweep expired locks"]
            }
            Error::NotEntered => text!["it could not be entered in time"],
            Error::SweeperLost => text!["the sweeper ended unexpectedly"],
        }
    }

    fn detail(&self) -> Option<Vec<u8>> {
        let said = match self {
            Error::Null { .. }
            | Error::Ambiguous { .. }
            | Error::NoFilter
            | Error::InvalidText { .. }
            | Error::WaitIsolation
            | Error::ReadOnly { .. }
            | Error::GuardDeclaration { .. }
            | Error::FloorImplausible
            | Error::ClientGone
            | Error::SetNotAllowed
            | Error::NotServing
            | Error::NotInstalled
            | Error::NoStatistics
            | Error::NotPreloaded
            | Error::NotEntered
            | Error::SweeperLost => return None,
            Error::Adoption(adoption) => return adoption.detail(),
            Error::NotHeld { failures, .. } => {
                let lines: Vec<_> = failures.iter().map(Failure::line).collect();
                return Some(lines.join(&b"; "[..]));
            }
            Error::Serialization { resource } => {
                let after = "\" changed after this transaction's snapshot.";
                return Some(text!["The lock on \"", resource, after]);
            }
            Error::GuardHeld {
                owner, expires_at, ..
            } => {
                let until = expires_at.to_rfc3339();
                return Some(text!["The lock of \"", owner, "\" expires at ", until, "."]);
            }
            Error::GuardKeyType { column, r#type } => {
                return Some(text![
                    "The text of \"",
                    column,
                    "\", of type ",
                    r#type,
                    ", depends on the session's settings, or on who asks."
                ]);
            }
            Error::HistoryMissed { event, resource } => {
                return Some(text![
                    "The first event that is not in it: ",
                    event,
                    " \"",
                    resource,
                    "\"."
                ]);
            }
            Error::TableAltered { what, how, .. } => {
                return Some(text![
                    "\"",
                    what,
                    "\" ",
                    how,
                    ", which softlock would not heed."
                ]);
            }
            Error::Length { bytes, max, .. } => {
                format!("The value has {bytes} bytes; 1 to {max} are allowed.")
            }
            Error::Duration { given, bound, .. } => {
                format!("The value is {given}; it must be {bound}.")
            }
            Error::DefaultTtlAboveMax {
                default_s,
                max_s,
                by_policy: true,
            } => format!("No ttl was given; the default is {default_s} s, the longest {max_s} s."),
            Error::DefaultTtlAboveMax {
                default_s, max_s, ..
            } => format!(
                "No ttl was given; softlock.default_ttl is {default_s} s, softlock.max_ttl {max_s} s."
            ),
            Error::MetadataNotObject { kind } => format!("The value is {kind}."),
            Error::NotPositive { given, .. } => {
                format!("The value is {given}; it must be at least 1.")
            }
            Error::TooMany { given, max } => {
                format!("The call names {given} resources; at most {max} are allowed.")
            }
            Error::TooManyElements { given, max, .. } => {
                format!("The array has {given} elements; at most {max} are allowed.")
            }
            Error::ElementCount {
                argument,
                given,
                resources,
            } => {
                format!("The call has {given} {argument} for {resources} resources.")
            }
            Error::VersionMismatch { schema } => format!(
                "The library is of version {}, the schema of version {schema}.",
                env!("CARGO_PKG_VERSION")
            ),
            Error::GuardNotLocked { .. } => "The table's trigger requires a lock to write.".into(),
            Error::TableLocked | Error::HistoryLocked => {
                "Something like VACUUM FULL or DDL holds it, or waits for it.".into()
            }
            Error::NoWorkerSlot => {
                "All worker slots are in use; softlock tries again every second.".into()
            }
        };
        Some(said.into_bytes())
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Null {
                argument: "resources" | "tokens",
            } => Some("For an empty array of rows: coalesce(array_agg(...), '{}')"),
            Error::DefaultTtlAboveMax {
                by_policy: true, ..
            } => Some("Pass a ttl, or correct the kind's row in softlock.policies."),
            Error::DefaultTtlAboveMax { .. } => Some("Pass a ttl, or lower softlock.default_ttl."),
            Error::Duration { hint, .. } => *hint,
            Error::MetadataNotObject { .. } => {
                Some("Wrap the value, for example {\"label\": \"till 3\"}.")
            }
            Error::TooMany { .. } | Error::TooManyElements { .. } => Some("Split the call."),
            Error::WaitIsolation => {
                Some("Leave wait at 0, or begin the transaction with READ COMMITTED.")
            }
            Error::ReadOnly { .. } => Some(
                "Send it to the primary, in a transaction that may write; here only softlock_status and \
                 softlock_active work.",
            ),
            Error::Serialization { .. } => Some("Run the transaction again."),
            Error::NotHeld { .. } => Some(
                "Roll back. What is not held may have been sold by an earlier try of the same sale, or \
                 given back, or have lapsed: look there before taking it again.",
            ),
            Error::GuardHeld { .. } => {
                Some("The holder writes after SET LOCAL softlock.owner = '<owner>'.")
            }
            Error::GuardNotLocked { .. } => Some(
                "Take it with softlock_acquire, and SET LOCAL softlock.owner to the same owner.",
            ),
            Error::GuardDeclaration { .. } => Some(
                "CREATE TRIGGER ... BEFORE INSERT OR UPDATE OR DELETE ON ... FOR EACH ROW EXECUTE \
                 FUNCTION softlock_guard('prefix:', 'key_column' [, 'require'])",
            ),
            Error::GuardKeyType { .. } => Some(
                "Use a column of type text, integer, uuid, boolean, numeric or an enum: a stored \
                 generated one can have the key's text.",
            ),
            Error::TableAltered { .. } => {
                Some("Undo it: the table has to be as CREATE EXTENSION makes it.")
            }
            Error::VersionMismatch { .. } => Some(
                "Restart the server if it has preloaded an older library, then: ALTER EXTENSION softlock UPDATE;",
            ),
            Error::FloorImplausible => Some(
                "No larger token can follow what it says. A superuser can set it back, to 1 for instance: the \
                 clock sees to the rest.",
            ),
            Error::NotServing => Some(
                "softlock.serve is off here: the call was meant for the server that keeps the locks.",
            ),
            Error::NotInstalled => Some("CREATE EXTENSION softlock;"),
            Error::TableLocked | Error::HistoryLocked => Some("Try again in a moment."),
            Error::HistoryMissed { .. } => Some(
                "Something like VACUUM FULL or DDL holds it, or waits for it: have it done when nobody sells.",
            ),
            Error::NotPreloaded | Error::NoStatistics => {
                Some("Add to postgresql.conf and restart: shared_preload_libraries = 'softlock'")
            }
            Error::Adoption(adoption) => adoption.hint(),
            Error::NoWorkerSlot => Some("Consider increasing max_worker_processes."),
            _ => None,
        }
    }

    /// What is said about it.
    pub fn report(&self) -> Report {
        Report {
            sqlstate: self.sqlstate().into(),
            message: self.message(),
            detail: self.detail(),
            hint: self.hint(),
        }
    }

    /// Reports it as a warning; the statement goes on.
    pub fn warn(self) {
        self.report().emit(Level::Warning);
    }

    /// Says it to who may want to know; the statement goes on.
    pub fn notice(self) {
        self.report().emit(Level::Notice);
    }

    /// Raises it. To be the last thing that a SQL function does: see `Report::raise`.
    pub fn raise(self) -> ! {
        let report = self.report();
        drop(self);
        report.raise()
    }
}
