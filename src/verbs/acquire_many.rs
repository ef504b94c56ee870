//! `softlock_acquire_many`: a whole cart, all or nothing.

use super::conflict;
use super::seize::{Turn, seize};
use crate::answer;
use crate::ask::Ask;
use crate::cart::Cart;
use crate::error::Error;
use crate::lock::Claim;
use crate::pg::Json;

/// Takes every resource of the cart for the claim, or none. Never waits.
pub fn acquire_many(cart: &Cart, asks: &[Ask], claim: &Claim) -> Result<Json, Error> {
    Ok(match seize(asks, claim, Turn::AfterWaiters)? {
        Ok(taken) => answer::cart_taken(cart, asks, &taken),
        Err(conflicts) => conflict::refuse(cart, asks, &conflicts),
    })
}
