//! What stands against taking a resource.

use super::quota::Quota;
use crate::answer;
use crate::ask::Ask;
use crate::cart::Cart;
use crate::journal::{self, Refusal};
use crate::lock::{Lock, Taker};
use crate::pg::{Json, Timestamp, pace};
use crate::text::Text;
use crate::units::Shortage;

/// Why a resource can't be had.
#[derive(Debug)]
pub enum Conflict {
    /// Somebody else holds it.
    Held(Lock),
    /// There are not so many units left, or there may not be.
    Short(Box<Shortage>),
    /// The owner has as many locks of the kind as it may have.
    Quota(Quota),
    /// Somebody is taking it, or ending a lock on it, and has not committed, or stands in line for it.
    /// No process is known of a prepared transaction; nobody is named where the whole table is locked.
    Contended {
        owner: Option<Text>,
        pid: Option<i32>,
    },
}

impl Conflict {
    /// Tells the journal that somebody was refused because of it.
    pub fn note(&self) {
        journal::refused(match self {
            Conflict::Short(shortage) if shortage.taker.is_some() => Refusal::Contended,
            Conflict::Held(_) | Conflict::Short(_) => Refusal::Held,
            Conflict::Quota(_) => Refusal::Quota,
            Conflict::Contended { .. } => Refusal::Contended,
        });
    }

    pub fn of(taker: Option<Taker>) -> Self {
        let pid = taker.as_ref().and_then(|taker| taker.pid);
        Conflict::Contended {
            owner: taker.map(|taker| taker.owner),
            pid,
        }
    }
}

/// Conflicts, each with the position of its resource.
pub type Conflicts = Vec<(usize, Conflict)>;

/// The answer to who can't have what was asked for together. Who comes back with it at once is held up for a moment.
pub fn refuse(cart: &Cart, asks: &[Ask], conflicts: &Conflicts) -> Json {
    for (_, conflict) in conflicts {
        conflict.note();
    }
    pace::give_way();
    answer::cart_refused(cart, asks, conflicts, Timestamp::now())
}
