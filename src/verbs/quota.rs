//! How many locks of a kind an owner may have, where `softlock.policies` sets a limit to it.
//!
//! Who would take one more enters a mutex of the owner's and the kind's before that of the resource, and
//! counts: also what the owner's other transactions are taking.

use std::collections::HashMap;

use crate::ask::Ask;
use crate::error::Error;
use crate::lock::Lock;
use crate::names::{Owner, Resource};
use crate::pg::mutex::{self, InsideOther};
use crate::pg::{Timestamp, hash};
use crate::store::Store;
use crate::text::{Text, text};

/// An owner has as many locks of a kind as it may have.
#[derive(Debug, Clone, Copy)]
pub struct Quota {
    pub held: usize,
    pub limit: i32,
}

/// An owner's live locks of the resource's kind, those included that it is taking.
fn count(store: &Store, owner: &Owner, resource: &Resource) -> Result<usize, Error> {
    store.count_of_owner(owner.as_text(), resource.kind(), Timestamp::now())
}

/// What a cart would add to an owner's locks, kind by kind.
#[derive(Default)]
pub struct Wanted(HashMap<Vec<u8>, (usize, usize)>);

impl Wanted {
    /// Adds a lock that would be granted; answers whether that is one too many.
    pub fn add(&mut self, store: &Store, owner: &Owner, ask: &Ask) -> Result<Option<Quota>, Error> {
        let Some(limit) = ask.terms.max_per_owner else {
            return Ok(None);
        };
        let kind = ask.resource.kind();
        if !self.0.contains_key(kind) {
            let held = count(store, owner, ask.resource)?;
            self.0.insert(kind.to_vec(), (held, 0));
        }
        let (held, more) = self.0.get_mut(kind).expect("it is there by now");
        *more += 1;
        let held = *held;
        Ok((held + *more > limit as usize).then_some(Quota { held, limit }))
    }
}

/// Waits for whoever decides about the owner's locks of the resource's kind.
fn alone(owner: &Text, resource: &Resource) -> InsideOther {
    let name = text![resource.kind(), ":", owner];
    mutex::enter(mutex::Kind::Owner, hash(&name))
}

/// Runs what prolongs a lock. Where there is a limit, nobody counts the owner's locks meanwhile: one that is
/// about to lapse would be counted as gone, and then come back.
pub fn uncounted<R>(
    lock: &Lock,
    resource: &Resource,
    limit: Option<i32>,
    prolong: impl FnOnce() -> R,
) -> R {
    let _inside = limit.map(|_| alone(&lock.owner, resource));
    prolong()
}

/// The limit to an owner's locks of a kind, inside its mutex; given back when dropped.
pub struct Limit<'a> {
    store: &'a Store,
    owner: &'a Owner,
    resource: &'a Resource,
    limit: Option<i32>,
    /// Locks of the kind that the same call has taken already.
    taken: usize,
    _inside: Option<InsideOther>,
}

impl<'a> Limit<'a> {
    /// Waits for whoever decides about the owner's locks of the kind, if there is a limit to them. The same
    /// call has taken those of `taken` already.
    pub fn enter<'b>(
        store: &'a Store,
        owner: &'a Owner,
        resource: &'a Resource,
        limit: Option<i32>,
        taken: impl Iterator<Item = &'b Resource>,
    ) -> Self {
        let inside = limit.map(|_| alone(owner.as_text(), resource));
        let taken = match limit {
            Some(_) => taken
                .filter(|other| other.kind() == resource.kind())
                .count(),
            None => 0,
        };
        Limit {
            store,
            owner,
            resource,
            limit,
            taken,
            _inside: inside,
        }
    }

    /// Whether one more lock would be one too many.
    pub fn exceeded(&self) -> Result<Option<Quota>, Error> {
        let Some(limit) = self.limit else {
            return Ok(None);
        };
        self.store.look_anew();
        let held = count(self.store, self.owner, self.resource)? + self.taken;
        Ok((held >= limit as usize).then_some(Quota { held, limit }))
    }
}
