//! `softlock_acquire_many`: a whole cart, all or nothing.

use std::collections::HashMap;

use super::seize::{Conflict, seize};
use crate::answer::{CartConflict, CartLock, CartRefused, CartTaken};
use crate::cart::Cart;
use crate::error::Error;
use crate::lock::Claim;
use crate::pg::{Jsonb, Timestamp};

/// Takes every resource of the cart for the claim, or none. Never waits.
pub fn acquire_many(cart: &Cart, claim: &Claim) -> Result<Jsonb, Error> {
    Ok(match seize(cart.sorted(), claim)? {
        Ok(written) => {
            let by_resource: HashMap<_, _> =
                written.iter().map(|w| (w.resource.as_str(), w)).collect();
            let lock = |resource| {
                let written = by_resource[resource];
                CartLock {
                    resource,
                    outcome: written.decision.outcome(),
                    token: written.lock.token,
                    expires_at: written.lock.expires_at,
                }
            };
            Jsonb::of(&CartTaken {
                acquired: true,
                locks: cart.asked().map(lock).collect(),
            })
        }
        Err(conflicts) => {
            let t = Timestamp::now();
            let by_resource: HashMap<_, _> = conflicts
                .iter()
                .map(|(at, conflict)| (cart.sorted()[*at].as_str(), conflict))
                .collect();
            let conflict = |resource| {
                let holder = match by_resource.get(resource)? {
                    Conflict::Held(lock) => Some(lock),
                    Conflict::Contended => None,
                };
                Some(CartConflict::of(resource, holder, t))
            };
            Jsonb::of(&CartRefused {
                acquired: false,
                conflicts: cart.asked().filter_map(conflict).collect(),
            })
        }
    })
}
