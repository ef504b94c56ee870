//! Units of a resource: who holds how many, and whether so many more can be had.

use crate::ask::Ask;
use crate::lock::{Lock, Look, Taker};
use crate::names::Owner;
use crate::pg::Timestamp;

/// What is to be seen of one of a resource's holds.
#[derive(Debug)]
pub struct Hold {
    pub slot: i32,
    pub look: Look,
}

/// A range of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    pub first: i32,
    pub last: i32,
}

/// So many slots there are for owners whose names have the same hash, and for the roles of one.
const SLOTS: i32 = 256;

impl Slots {
    /// That of the hold of a resource that has no units.
    pub const EXCLUSIVE: Slots = Slots { first: 0, last: 0 };
    pub const ALL: Slots = Slots {
        first: 0,
        last: i32::MAX,
    };

    /// A single one.
    pub fn only(slot: i32) -> Slots {
        Slots {
            first: slot,
            last: slot,
        }
    }

    /// Those for the holds of owners whose names have this hash; never the exclusive one.
    pub fn of_owner(hash: u64) -> Slots {
        let ranges = (i32::MAX / SLOTS) as u64;
        let first = (1 + (hash % ranges) as i32) * SLOTS - 1;
        Slots {
            first: first + 1,
            last: first + SLOTS,
        }
    }

    /// The first of them in which nobody has, or is taking, anything at `t`.
    pub fn free(self, holds: &[Hold], t: Timestamp) -> Option<i32> {
        let is_free = |slot: i32| {
            let mut its = holds.iter().filter(|hold| hold.slot == slot);
            its.all(|hold| hold.look.taker.is_none() && hold.live_units(t) == 0)
        };
        (self.first..=self.last).find(|&slot| is_free(slot))
    }
}

impl Hold {
    pub fn empty(slot: i32) -> Self {
        Hold {
            slot,
            look: Look::default(),
        }
    }

    pub fn live(&self, t: Timestamp) -> Option<&Lock> {
        self.look.lock.as_ref().filter(|lock| lock.is_live(t))
    }

    /// The units of its committed lock, or this transaction's, if that is live.
    pub fn live_units(&self, t: Timestamp) -> i32 {
        self.live(t).map_or(0, |lock| lock.units)
    }

    /// The most units that it can come to, however the transactions end that are writing it: what was
    /// seen last, of a lock that a sale has ended in time also where it has lapsed since.
    fn most_units(&self, t: Timestamp) -> i32 {
        let seen = match &self.look.taker {
            Some(_) => self.look.lock.as_ref().map_or(0, |lock| lock.units),
            None => self.live_units(t),
        };
        seen.max(self.look.taking)
    }
}

/// The lock that is live at `t` and the asking holder's own.
pub fn own(holds: &[Hold], is_own: impl Fn(&Lock) -> bool, t: Timestamp) -> Option<&Lock> {
    let mut live = holds.iter().filter_map(|hold| hold.live(t));
    live.find(|lock| is_own(lock))
}

/// Who of this owner is at one of them, in another transaction.
pub fn taker_of<'a>(holds: &'a [Hold], owner: &Owner) -> Option<&'a Taker> {
    let mut takers = holds.iter().filter_map(|hold| hold.look.taker.as_ref());
    takers.find(|taker| taker.owner == *owner.as_text())
}

/// The lapsed lock in a slot that is free, if there is one.
pub fn lapsed_in(holds: &[Hold], slot: i32) -> Option<&Lock> {
    let its = holds.iter().find(|hold| hold.slot == slot)?;
    its.look.lock.as_ref()
}

/// The largest version that was met.
pub fn newest(holds: &[Hold]) -> i64 {
    let newest = holds.iter().map(|hold| hold.look.newest).max();
    newest.unwrap_or(0)
}

/// All units that may be taken, whatever becomes of the transactions that are at it.
pub fn most(holds: &[Hold], t: Timestamp) -> i64 {
    holds.iter().map(|hold| i64::from(hold.most_units(t))).sum()
}

/// The units of all locks that are live at `t`.
pub fn held(holds: &[Hold], t: Timestamp) -> i64 {
    holds.iter().map(|hold| i64::from(hold.live_units(t))).sum()
}

/// Why so many units can't be had.
#[derive(Debug, Clone)]
pub struct Shortage {
    pub capacity: i32,
    /// How many could be had.
    pub available: i32,
    /// Who stands in the way, where it is one holder.
    pub holder: Option<Lock>,
    /// When enough will have lapsed, if nobody renews; `None` where they will not.
    pub free_at: Option<Timestamp>,
    /// Who is at it, where it depends on a transaction that has not ended.
    pub taker: Option<Taker>,
}

/// Whether `ask` fits beside what others hold and take at `t`. The caller's own lock does not count: it
/// becomes what is asked.
pub fn weigh(
    holds: &[Hold],
    ask: &Ask,
    is_own: impl Fn(&Lock) -> bool,
    t: Timestamp,
) -> Result<(), Box<Shortage>> {
    let is_others = |hold: &&Hold| hold.look.taker.is_some() || !hold.live(t).is_some_and(&is_own);
    let others: Vec<_> = holds.iter().filter(is_others).collect();
    let held: i64 = others.iter().map(|h| i64::from(h.live_units(t))).sum();
    let most: i64 = others.iter().map(|h| i64::from(h.most_units(t))).sum();
    let (units, capacity) = (i64::from(ask.units), i64::from(ask.capacity));
    if most + units <= capacity {
        return Ok(());
    }
    let mut live: Vec<&Lock> = others.iter().filter_map(|hold| hold.live(t)).collect();
    live.sort_by_key(|lock| lock.expires_at);
    let mut left = held;
    let free_at = live
        .iter()
        .find(|lock| {
            left -= i64::from(lock.units);
            left + units <= capacity
        })
        .map(|lock| lock.expires_at);
    let taker = match held + units <= capacity {
        true => others.iter().find_map(|hold| hold.look.taker.clone()),
        false => None,
    };
    Err(Box::new(Shortage {
        capacity: ask.capacity,
        available: (capacity - most).max(0) as i32,
        holder: match live.as_slice() {
            [one] if taker.is_none() => Some((*one).clone()),
            _ => None,
        },
        free_at: free_at.filter(|_| units <= capacity),
        taker,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Resource;
    use crate::policy::Terms;
    use pgrx::pg_sys;

    const T: Timestamp = Timestamp::from_raw(1_000);

    fn ask(resource: &Resource, units: i32, capacity: i32) -> Ask<'_> {
        Ask {
            resource,
            units,
            capacity,
            terms: Terms::default(),
        }
    }

    fn lock(owner: &str, units: i32, expires_at: i64) -> Lock {
        Lock {
            owner: owner.into(),
            session: None,
            token: 1,
            role: pg_sys::Oid::from(10),
            metadata: None,
            acquired_at: Timestamp::from_raw(0),
            expires_at: Timestamp::from_raw(expires_at),
            slot: 0,
            version: 1,
            units,
            place: None,
        }
    }

    fn held(owner: &str, units: i32, expires_at: i64) -> Hold {
        let mut hold = Hold::empty(0);
        hold.look.lock = Some(lock(owner, units, expires_at));
        hold
    }

    fn taken(owner: &str, units: i32) -> Hold {
        let mut hold = Hold::empty(0);
        hold.look.taking = units;
        hold.look.taker = Some(Taker {
            owner: owner.into(),
            transaction: Default::default(),
            pid: Some(7),
        });
        hold
    }

    fn weighed(holds: &[Hold], units: i32, capacity: i32) -> Result<(), Box<Shortage>> {
        let is_own = |lock: &Lock| lock.owner == "anna".into();
        let resource = Resource::of("k");
        weigh(holds, &ask(&resource, units, capacity), is_own, T)
    }

    #[test]
    fn units_fit_beside_what_others_hold_and_take_and_ones_own_count_once() {
        let holds = [
            held("boris", 3, 2_000),
            taken("clara", 2),
            held("anna", 4, 2_000),
        ];
        assert!(weighed(&holds, 5, 10).is_ok());
        assert_eq!(weighed(&holds, 6, 10).unwrap_err().available, 5);
        assert_eq!(most(&holds, T), 9);
    }

    #[test]
    fn what_has_lapsed_counts_only_while_somebody_is_at_it() {
        assert!(weighed(&[held("boris", 3, 1_000)], 3, 3).is_ok());
        let mut sold = held("boris", 3, 1_000);
        sold.look.taker = taken("boris", 0).look.taker;
        let shortage = weighed(&[sold], 3, 3).unwrap_err();
        assert!(shortage.taker.is_some() && shortage.holder.is_none());
    }

    #[test]
    fn a_refusal_says_when_enough_will_have_lapsed_and_who_is_the_only_one_in_the_way() {
        let holds = [held("boris", 1, 3_000), held("clara", 2, 2_000)];
        let at = |units| weighed(&holds, units, 3).unwrap_err().free_at;
        assert_eq!(at(2), Some(Timestamp::from_raw(2_000)));
        assert_eq!(at(3), Some(Timestamp::from_raw(3_000)));
        assert_eq!(at(4), None);
        assert!(weighed(&holds, 2, 3).unwrap_err().holder.is_none());
        let only = weighed(&holds[..1], 3, 3)
            .unwrap_err()
            .holder
            .clone()
            .unwrap();
        assert_eq!(only.owner, "boris".into());
    }

    #[test]
    fn sums_near_the_largest_number_do_not_overflow() {
        let holds = [
            held("boris", i32::MAX, 2_000),
            held("clara", i32::MAX, 2_000),
        ];
        assert_eq!(
            weighed(&holds, i32::MAX, i32::MAX).unwrap_err().available,
            0
        );
    }

    #[test]
    fn an_owners_slots_are_its_own_whatever_its_hash_and_never_the_exclusive_one() {
        for hash in [0, 1, 8_388_605, 8_388_606, 8_388_607, u64::MAX] {
            let slots = Slots::of_owner(hash);
            assert!(slots.first > 0 && slots.last > slots.first, "{slots:?}");
            assert_eq!(slots.last - slots.first, SLOTS - 1);
        }
        assert_ne!(Slots::of_owner(0), Slots::of_owner(1));
    }
}
