//! `softlock_consume`: the end of the sale.

use std::collections::HashMap;

use super::hold::{self, Refused};
use crate::answer::Consumed;
use crate::cart::Cart;
use crate::error::{Error, Failure};
use crate::lock::{Caller, Lock, Refusal};
use crate::names::Resource;
use crate::pg::probe::Probe;
use crate::pg::{Jsonb, Timestamp};
use crate::store;

/// Ends the caller's holds on every resource of the cart, in the transaction that sells, or raises
/// an error that names each resource that is not held and why.
pub fn consume(cart: &Cart, caller: &Caller) -> Result<Jsonb, Error> {
    loop {
        let look = || Probe::with(|probe| all(cart, |resource| probe.find(resource.as_str())));
        // Fail before waiting for anybody, where it is to fail.
        verify(cart, caller, look())?;
        let mut locked: HashMap<_, _> =
            store::lock_rows(cart.sorted().iter()).into_iter().collect();
        let missing = cart
            .sorted()
            .iter()
            .find(|r| !locked.contains_key(r.as_str()));
        if let Some(missing) = missing {
            // Released, taken over or swept since the look, which can now say so.
            hold::may_look_again(missing)?;
            continue;
        }
        // Nobody else can write the rows any more: this verdict stands.
        verify(
            cart,
            caller,
            all(cart, |resource| locked.remove(resource.as_str())),
        )?;
        store::delete_many(cart.sorted().iter());
        return Ok(Jsonb::of(&Consumed {
            consumed_count: cart.sorted().len(),
        }));
    }
}

fn all(cart: &Cart, find: impl FnMut(&Resource) -> Option<Lock>) -> Vec<Option<Lock>> {
    cart.sorted().iter().map(find).collect()
}

/// Whether every lock is the caller's, live, and has the token asked for.
fn verify(cart: &Cart, caller: &Caller, locks: Vec<Option<Lock>>) -> Result<(), Error> {
    let t = Timestamp::now();
    let check = |(at, lock): (usize, Option<Lock>)| {
        let stale = |lock: &Lock| cart.tokens_at(at).iter().any(|&token| token != lock.token);
        let refused = match hold::check(lock, caller, None, t) {
            Ok(lock) if stale(&lock) => Refused {
                refusal: Refusal::StaleToken,
                lock: None,
                t,
            },
            Ok(_) => return None,
            Err(refused) => refused,
        };
        Some(Failure {
            resource: cart.sorted()[at].as_str().into(),
            reason: refused.refusal.outcome(),
            holder: refused.holder().map(|h| (h.owner.to_owned(), h.expires_at)),
        })
    };
    let failures: Vec<_> = locks.into_iter().enumerate().filter_map(check).collect();
    if failures.is_empty() {
        return Ok(());
    }
    Err(Error::NotHeld {
        owner: caller.owner.as_str().into(),
        failures,
    })
}
