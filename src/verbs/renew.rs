//! `softlock_renew`: prolong a hold that is still live.

use super::hold::{self, Kept};
use crate::answer::{NotRenewed, Renewed};
use crate::error::Error;
use crate::lock::{Caller, Claim, Decision};
use crate::names::{Resource, Ttl};
use crate::pg::Jsonb;
use crate::store;

/// Prolongs the caller's live lock to `ttl` from now, never shortening it.
pub fn renew(
    resource: &Resource,
    caller: Caller,
    ttl: Ttl,
    token: Option<i64>,
) -> Result<Jsonb, Error> {
    let claim = Claim {
        caller,
        session: None,
        metadata: None,
        ttl,
    };
    let kept = hold::with_live(resource, &claim.caller, token, |t| {
        store::rewrite(resource, &claim, Decision::Renew, t)
    })?;
    Ok(match kept {
        Kept::Done(written) => Jsonb::of(&Renewed {
            renewed: true,
            outcome: "renewed",
            resource: resource.as_str(),
            token: written.token,
            expires_at: written.expires_at,
        }),
        Kept::Refused(refused) => Jsonb::of(&NotRenewed {
            renewed: false,
            outcome: refused.refusal.outcome(),
            resource: resource.as_str(),
            holder: refused.holder(),
        }),
    })
}
