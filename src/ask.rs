//! What a call asks for of one resource.

use crate::error::Error;
use crate::lock::Claim;
use crate::names::{Resource, positive};
use crate::policy::{Known, Terms, terms};

/// So many units of a resource that has so many, on these terms.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    pub resource: &'a Resource,
    pub units: i32,
    pub capacity: i32,
    pub terms: Terms,
}

impl<'a> Ask<'a> {
    /// `units` and `capacity` must be at least 1. More units than there are can be asked for: they are
    /// not to be had.
    pub fn new(
        resource: &'a Resource,
        units: i32,
        capacity: i32,
        claim: &Claim,
        policies: &Known,
    ) -> Result<Self, Error> {
        Ok(Ask {
            units: positive("units", units)?,
            capacity: positive("capacity", capacity)?,
            terms: terms(policies, resource, claim.ttl)?,
            resource,
        })
    }

    /// Whether it is for the only unit of a resource.
    pub fn is_exclusive(&self) -> bool {
        (self.units, self.capacity) == (1, 1)
    }
}
