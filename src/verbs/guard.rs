//! `softlock_guard`: may this row be written?

use super::hold;
use crate::error::Error;
use crate::journal::{self, Refusal};
use crate::lock::{Caller, Lock};
use crate::names::{Owner, Resource};
use crate::pg::Timestamp;
use crate::pg::trigger::{Firing, NoKey};
use crate::settings;
use crate::store::{Patience, Store, Wait, Written};
use crate::text::{Text, text};
use crate::units::Slots;

/// How the trigger is declared.
struct Declaration {
    prefix: Text,
    column: Text,
    /// Whether a write needs a lock.
    is_lock_required: bool,
}

impl Declaration {
    fn of(firing: &Firing) -> Result<Self, Error> {
        let wrong = |problem: Vec<u8>| Err(Error::GuardDeclaration { problem });
        if !firing.is_before_row() {
            return wrong(text!["must be fired for each row, before the write"]);
        }
        if firing.event().is_none() {
            return wrong(text!["must be fired for INSERT, UPDATE or DELETE"]);
        }
        let arguments = firing.arguments();
        let (prefix, column, is_lock_required) = match arguments.as_slice() {
            [prefix, column] => (prefix, column, false),
            [prefix, column, require] if require.as_bytes() == b"require" => (prefix, column, true),
            [_, _, third] => return wrong(text!["does not know the argument \"", third, "\""]),
            _ => return wrong(text!["needs a prefix and a key column"]),
        };
        Ok(Declaration {
            prefix: prefix.clone(),
            column: column.clone(),
            is_lock_required,
        })
    }
}

/// Checks how the trigger is declared, and then the keys of the row that it fires for: as it was, and as
/// it is to be.
pub fn fire(firing: &Firing) -> Result<(), Error> {
    let declaration = Declaration::of(firing)?;
    let column = &declaration.column;
    let keys = firing.keys(column).map_err(|reason| match reason {
        NoKey::NoColumn => Error::GuardDeclaration {
            problem: text!["found no column \"", column, "\" in the table"],
        },
        NoKey::Type(r#type) => Error::GuardKeyType {
            column: column.clone(),
            r#type,
        },
    })?;
    for key in keys {
        // Nobody can hold a name that is too long.
        let name = Text::from(&*text![declaration.prefix, key]);
        let resource = Resource::from_text(name.clone());
        let is_held = match &resource {
            Some(resource) => Store::with(Patience::Little, |store| check(store, resource))?,
            None => false,
        };
        if !is_held && declaration.is_lock_required {
            journal::refused(Refusal::Guard);
            return Err(Error::GuardNotLocked { resource: name });
        }
    }
    Ok(())
}

/// Refuses the write while somebody else than `softlock.owner` holds the resource. Answers whether
/// `softlock.owner` does; then it does so until this transaction ends, even if the lock lapses meanwhile.
fn check(store: &Store, resource: &Resource) -> Result<bool, Error> {
    let is_live = |lock: &Lock| lock.is_live(Timestamp::now());
    loop {
        // An owner that is empty or too long holds nothing.
        let caller = Owner::from_text(settings::owner()).map(Caller::new);
        let Some(lock) = in_the_way(store, resource, caller.as_ref()).filter(is_live) else {
            return Ok(false);
        };
        if !caller.is_some_and(|caller| caller.holds(&lock)) {
            journal::refused(Refusal::Guard);
            return Err(Error::GuardHeld {
                resource: resource.as_text().clone(),
                owner: lock.owner,
                expires_at: lock.expires_at,
            });
        }
        // It may have lapsed before it was kept, and then somebody else may have it already.
        if store.keep(&lock, Wait::Yes)? == Written::Done && is_live(&lock) {
            return Ok(true);
        }
        hold::look_again(store, resource)?;
    }
}

/// The live lock on the resource that is not the caller's; the caller's, where there is no other.
fn in_the_way(store: &Store, resource: &Resource, caller: Option<&Caller>) -> Option<Lock> {
    let look = store.look(resource);
    if !look.is_shared {
        return look.lock;
    }
    let t = Timestamp::now();
    let holds = store.holds(resource, Slots::ALL);
    let live = holds.iter().filter_map(|hold| hold.live(t));
    let is_own = |lock: &&Lock| caller.is_some_and(|caller| caller.holds(lock));
    live.min_by_key(is_own).cloned()
}
