//! An adopted table that can't be swept: the log has it once, until it can be.

use super::{Adopted, registry};
use crate::error::Error;
use crate::pg::{self, Level, Report};
use crate::text::{Text, text};
use crate::worker::Failure;

/// Notes that a sweep did not come off, and warns where that begins a streak. Answers what is wrong.
pub fn note(adopted: &Adopted, failure: &Failure) -> Result<Text, Error> {
    let said = pg::said(failure.message());
    let is_first = registry::note_failure(adopted.relation, &said)?;
    let detail = failure.detail().map_or_else(
        || {
            text![
                "Everything else is swept; softlock tries this one again with every sweep, and keeps quiet \
                 until it has come off."
            ]
        },
        |detail| pg::said(detail).as_bytes().to_vec(),
    );
    let report = Report {
        message: text!["softlock could not sweep table ", adopted.name, ": ", said],
        detail: Some(detail),
        hint: Some(
            "Put it right, adopt the table anew with softlock_adopt(), or end it with softlock_disown().",
        ),
        ..Report::with_code(failure.code() as i32)
    };
    report.emit(match is_first {
        true => Level::Warning,
        false => Level::Debug1,
    });
    Ok(said)
}

/// Says that a streak has ended, once that is committed.
pub fn end(adopted: &Adopted) {
    let line = text!["softlock sweeps table ", adopted.name, " again"];
    pg::at_commit::log((Level::Log, Report::line(line)));
}
