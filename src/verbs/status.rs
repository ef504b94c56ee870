//! `softlock_status`: who holds what, for a list of resources; `softlock_pending`: who is at it.

use crate::error::Error;
use crate::lock::{Caller, Lock, Look};
use crate::names::{Owner, Resource};
use crate::pg::Timestamp;
use crate::store::{Patience, Pending, Store};
use crate::units::{self, Hold, Slots};

/// What is known of one resource.
pub struct Status<'a> {
    pub resource: &'a Resource,
    /// The live lock, if there is one, and who is taking or ending one.
    pub look: &'a Look,
    /// Whether that lock is the asking owner's.
    pub mine: bool,
    /// How many units are held, by whomever.
    pub units: i64,
    /// When it was looked at.
    pub t: Timestamp,
}

/// So many resources are looked at together: each may come with metadata of some size.
const AT_A_TIME: usize = 256;

/// Looks at each resource, in the order asked, and has `put` take what it finds.
pub fn status(
    resources: &[Resource],
    owner: Option<Owner>,
    mut put: impl FnMut(Status),
) -> Result<(), Error> {
    let caller = owner.map(Caller::new);
    Store::with(Patience::Little, |store| {
        let t = Timestamp::now();
        for asked in resources.chunks(AT_A_TIME) {
            let mut sorted: Vec<_> = asked.iter().collect();
            sorted.sort_unstable();
            sorted.dedup();
            let mut looks = store.look_at_all(&sorted);
            let mut units = Vec::with_capacity(looks.len());
            for (look, resource) in looks.iter_mut().zip(&sorted) {
                if look.is_shared {
                    let holds = store.holds(resource, Slots::ALL);
                    units.push(units::held(&holds, t));
                    *look = one_of(store, &holds, caller.as_ref(), t);
                    continue;
                }
                look.lock = look.lock.take().filter(|lock| lock.is_live(t));
                units.push(look.lock.as_ref().map_or(0, |lock| lock.units.into()));
            }
            for resource in asked {
                let at = sorted.binary_search(&resource).expect("it is among them");
                let look = &looks[at];
                let mine = match (&look.lock, &caller) {
                    (Some(lock), Some(caller)) => caller.holds(lock),
                    _ => false,
                };
                put(Status {
                    resource,
                    look,
                    mine,
                    units: units[at],
                    t,
                });
            }
        }
        Ok(())
    })
}

/// Of the holds of a resource, the one to be shown: the caller's, or who else is the only one; and one of
/// those who are at it.
fn one_of(store: &Store, holds: &[Hold], caller: Option<&Caller>, t: Timestamp) -> Look {
    let is_own = |lock: &Lock| caller.is_some_and(|caller| caller.holds(lock));
    let only = || {
        let mut live = holds.iter().filter_map(|hold| hold.live(t));
        live.next().filter(|_| live.next().is_none())
    };
    let shown = units::own(holds, is_own, t).or_else(only);
    Look {
        lock: shown.map(|lock| Lock {
            metadata: store.metadata(lock),
            ..lock.clone()
        }),
        taker: holds.iter().find_map(|hold| hold.look.taker.clone()),
        is_shared: true,
        ..Look::default()
    }
}

/// Has `put` take each lock that a transaction which has not ended is taking or ending.
pub fn pending(put: impl FnMut(Pending)) -> Result<(), Error> {
    Store::with(Patience::Little, |store| {
        store.each_pending(put);
        Ok(())
    })
}
