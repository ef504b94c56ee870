//! `softlock_release`: give a hold back.

use super::hold::{self, Kept};
use crate::answer::Released;
use crate::error::Error;
use crate::lock::Caller;
use crate::names::Resource;
use crate::pg::Jsonb;
use crate::store;

/// Frees the caller's live lock. Asking again is harmless.
pub fn release(resource: &Resource, caller: &Caller, token: Option<i64>) -> Result<Jsonb, Error> {
    let kept = hold::with_live(resource, caller, token, |_| {
        store::delete(resource).then_some(())
    })?;
    Ok(match kept {
        Kept::Done(()) => Jsonb::of(&Released {
            released: true,
            outcome: "released",
            resource: resource.as_str(),
            holder: None,
        }),
        Kept::Refused(refused) => Jsonb::of(&Released {
            released: false,
            outcome: refused.refusal.outcome(),
            resource: resource.as_str(),
            holder: refused.holder(),
        }),
    })
}
