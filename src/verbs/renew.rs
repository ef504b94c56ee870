//! `softlock_renew`: prolong a hold that is still live.

use std::iter;

use super::hold;
use crate::answer::{NotRenewed, Renewed};
use crate::error::Error;
use crate::lock::{Claim, Decision};
use crate::names::Resource;
use crate::pg::{Jsonb, Timestamp};
use crate::store::{self, Rewrite};

/// Prolongs the caller's live lock to the claim's ttl from now, never shortening it.
pub fn renew(resource: &Resource, claim: &Claim, token: Option<i64>) -> Result<Jsonb, Error> {
    loop {
        let seen = match hold::look(resource, &claim.caller, token) {
            Ok(seen) => seen,
            Err(refused) => {
                return Ok(Jsonb::of(&NotRenewed {
                    renewed: false,
                    outcome: refused.refusal.outcome(),
                    resource: resource.as_str(),
                    holder: refused.holder(),
                }));
            }
        };
        let change = Rewrite {
            resource,
            seen: &seen,
            decision: Decision::Renew,
        };
        if let Some(written) = store::rewrite(&change, claim, Timestamp::now()) {
            return Ok(Jsonb::of(&Renewed {
                renewed: true,
                outcome: "renewed",
                resource: resource.as_str(),
                token: written.token,
                expires_at: written.expires_at,
            }));
        }
        hold::may_look_again(resource)?;
        store::lock_rows(iter::once(resource));
    }
}
