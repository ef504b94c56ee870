//! `softlock_acquire_any`: the first of a list that can be had.

use super::conflict::{self, Conflict, Conflicts};
use super::seize::{self, MOMENT, Seizure, Taken, Turn};
use crate::answer;
use crate::ask::Ask;
use crate::cart::Cart;
use crate::error::Error;
use crate::lock::Claim;
use crate::pg::{Json, mutex, subtransaction};
use crate::store::{Patience, Store};

/// So often it begins anew because what was free a moment ago was not to be had, nor given to anybody.
const ROUNDS: usize = 100;

/// Takes `count` of the resources for the claim, the first in the order asked that can be had, or none.
/// Never waits.
pub fn acquire_any(cart: &Cart, asks: &[Ask], count: usize, claim: &Claim) -> Result<Json, Error> {
    let got = Store::with(Patience::None, |store| {
        let seizure = Seizure {
            store,
            claim,
            turn: Turn::AfterWaiters,
        };
        any(&seizure, cart, asks, count)
    });
    let got = match got {
        Err(Error::TableLocked) => {
            Err((0..asks.len()).map(|at| (at, Conflict::of(None))).collect())
        }
        got => got?,
    };
    Ok(match got {
        Ok(taken) => answer::any_taken(asks, &taken),
        Err(conflicts) => conflict::refuse(cart, asks, &conflicts),
    })
}

/// What was taken, each with its position.
type Picked = Vec<(usize, Taken)>;

fn any(
    seizure: &Seizure,
    cart: &Cart,
    asks: &[Ask],
    count: usize,
) -> Result<Result<Picked, Conflicts>, Error> {
    for round in 0..ROUNDS {
        let conflicts = seizure.conflicts(asks)?;
        let is_free = |at: &usize| conflicts[*at].is_none();
        let candidates: Vec<usize> = cart.asked().filter(is_free).collect();
        if candidates.len() < count {
            let conflicts = conflicts.into_iter().enumerate();
            return Ok(Err(conflicts
                .filter_map(|(at, conflict)| Some((at, conflict?)))
                .collect()));
        }
        seizure.store.prepare_to_write()?;
        let attempt = || {
            // Given back before a rollback, which would give it back as well.
            let _alone = (round > 0).then(|| mutex::enter(mutex::Kind::Any, 0));
            take(seizure, asks, &candidates, count)
        };
        match subtransaction::attempt(attempt) {
            Ok(picked) => {
                let (positions, taken): (Vec<_>, Vec<_>) = picked.into_iter().unzip();
                let asked: Vec<Ask> = positions.iter().map(|&at| asks[at].clone()).collect();
                seize::note(&asked, &taken)?;
                return Ok(Ok(positions.into_iter().zip(taken).collect()));
            }
            Err(Some(error)) => return Err(error),
            // Others have some of them, and may give them up again, as they can't have enough either: from
            // now on one of these at a time.
            Err(None) => {
                std::thread::sleep(MOMENT);
                seizure.look_again_in_a_moment();
            }
        }
    }
    let contended = |at| (at, Conflict::of(None));
    Ok(Err((0..asks.len()).map(contended).collect()))
}

/// Takes them in the order given, passing over those that somebody else was faster to take; `Err(None)`
/// where these were too many.
fn take(
    seizure: &Seizure,
    asks: &[Ask],
    candidates: &[usize],
    count: usize,
) -> Result<Picked, Option<Error>> {
    let mut positions = Vec::with_capacity(count);
    let (mut before, mut taken) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for &at in candidates {
        if taken.len() == count {
            break;
        }
        let got = seizure.take_now(&asks[at], &before, &taken);
        if let Ok(lock) = got.map_err(Some)? {
            positions.push(at);
            before.push(asks[at].clone());
            taken.push(lock);
        }
    }
    match taken.len() == count {
        true => Ok(positions.into_iter().zip(taken).collect()),
        false => Err(None),
    }
}
