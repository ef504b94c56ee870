//! Why a database was not swept, and how the log is told.

use std::ffi::{CStr, c_char};

use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::prelude::*;
use pgrx::{PgLogLevel, function_name};

use crate::error::Error;

/// What kept a sweeper from doing its work.
pub struct Failure {
    code: PgSqlErrorCode,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl Failure {
    /// What an error said; empty texts are as good as none.
    pub fn raised(
        code: PgSqlErrorCode,
        message: String,
        detail: Option<String>,
        hint: Option<String>,
    ) -> Failure {
        Failure {
            code,
            message,
            detail: detail.filter(|detail| !detail.is_empty()),
            hint: hint.filter(|hint| !hint.is_empty()),
        }
    }

    /// What the server is about to write into its log.
    ///
    /// # Safety
    ///
    /// The error must be one that the server hands to its log hook.
    pub unsafe fn of_server(error: &pg_sys::ErrorData) -> Failure {
        let text = |text: *const c_char| {
            // SAFETY: NULL or NUL-terminated, by the caller's promise.
            let text = (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) });
            text.map(|text| text.to_string_lossy().into_owned())
        };
        let message = text(error.message).unwrap_or_default();
        let code = error.sqlerrcode.into();
        Failure::raised(code, message, text(error.detail), text(error.hint))
    }

    pub fn code(&self) -> PgSqlErrorCode {
        self.code
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Names the database and what is wrong with it in the log.
    pub fn warn(&self, database: &str) {
        self.report(database).report(PgLogLevel::WARNING);
    }

    /// The same for who looks closely: the log has had its warning.
    pub fn repeat(&self, database: &str) {
        self.report(database).report(PgLogLevel::DEBUG1);
    }

    /// Raises it as an error of the server's.
    pub fn raise(self) -> ! {
        let mut report = ErrorReport::new(self.code, self.message, function_name!());
        if let Some(detail) = self.detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = self.hint {
            report = report.set_hint(hint);
        }
        report.report(PgLogLevel::ERROR);
        unreachable!("an error has been raised");
    }

    fn report(&self, database: &str) -> ErrorReport {
        let hint = self.hint().unwrap_or(match self.code {
            PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE => {
                "Look in pg_locks for the transaction that has locked it, and end that."
            }
            _ => "Its locks lapse on time all the same; they are only not deleted.",
        });
        ErrorReport::new(
            self.code,
            format!(
                "softlock could not sweep database \"{database}\": {}",
                self.message
            ),
            function_name!(),
        )
        .set_detail(self.detail().unwrap_or(
            "The other databases are swept; softlock tries this one again with every sweep, and \
             keeps quiet until it has come off.",
        ))
        .set_hint(hint)
    }
}

impl From<CaughtError> for Failure {
    fn from(error: CaughtError) -> Failure {
        let (CaughtError::PostgresError(report)
        | CaughtError::ErrorReport(report)
        | CaughtError::RustPanic {
            ereport: report, ..
        }) = error;
        Failure::raised(
            report.sql_error_code(),
            report.message().to_owned(),
            report.detail().map(str::to_owned),
            report.hint().map(str::to_owned),
        )
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let report = error.report();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Failure {
            code: report.code().into(),
            message: text(report.message),
            detail: report.detail.map(text),
            hint: report.hint.map(str::to_owned),
        }
    }
}
