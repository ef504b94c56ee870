//! `softlock_guard`: may this row be written?

use pgrx::prelude::*;
use pgrx::{PgTriggerLevel, PgTriggerOperation, PgTriggerWhen};

use crate::error::Error;
use crate::lock::Caller;
use crate::names::{Owner, Resource};
use crate::pg::probe::Probe;
use crate::pg::{self, Timestamp};
use crate::settings;

/// Checks how the trigger is declared, and then the row that it fires for.
pub fn fire(trigger: &PgTrigger) -> Result<(), Error> {
    let wrong = |problem: &str| Error::GuardDeclaration {
        problem: problem.into(),
    };
    if !matches!(trigger.level(), PgTriggerLevel::Row) {
        return Err(wrong("must be fired for each row"));
    }
    if !matches!(trigger.when(), Ok(PgTriggerWhen::Before)) {
        return Err(wrong("must be fired before the write"));
    }
    if !matches!(
        trigger.op(),
        Ok(PgTriggerOperation::Update | PgTriggerOperation::Delete)
    ) {
        return Err(wrong("must be fired for UPDATE or DELETE"));
    }
    let arguments = trigger.extra_args().unwrap_or_default();
    let (prefix, column, required) = match arguments.as_slice() {
        [prefix, column] => (prefix, column, false),
        [prefix, column, require] if require == "require" => (prefix, column, true),
        [_, _, third] => {
            return Err(wrong(&format!("does not know the argument \"{third}\"")));
        }
        _ => return Err(wrong("needs a prefix and a key column")),
    };
    let key = pg::trigger::old_text(trigger, column)
        .map_err(|()| wrong(&format!("found no column \"{column}\" in the table")))?;
    match key {
        Some(key) => check(&(prefix.clone() + &key), required),
        None => Ok(()),
    }
}

/// Refuses the write while somebody else than `softlock.owner` holds the resource, and, where a
/// lock is required, also while nobody does.
fn check(name: &str, required: bool) -> Result<(), Error> {
    // Nobody can hold a name that is too long or empty.
    let found = Resource::parse(Some(name))
        .ok()
        .and_then(|resource| Probe::with(|probe| probe.find(resource.as_str())));
    let Some(lock) = found.filter(|lock| lock.is_live(Timestamp::now())) else {
        return match required {
            true => Err(Error::GuardNotLocked {
                resource: name.into(),
            }),
            false => Ok(()),
        };
    };
    // An owner that is empty or too long holds nothing.
    let caller = Owner::parse(settings::owner().as_deref())
        .ok()
        .map(Caller::new);
    if caller.is_some_and(|caller| caller.holds(&lock)) {
        return Ok(());
    }
    Err(Error::GuardHeld {
        resource: name.into(),
        owner: lock.owner,
        expires_at: lock.expires_at,
    })
}
