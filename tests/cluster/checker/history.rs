//! What the clients were told, and the proof that it fits together.
//!
//! All times are microseconds of the one clock that the clients and the server on this machine
//! share. A client knows when it began to ask and when it had the answer (after the commit, in a
//! transaction); what happened in between happened at some unknown time between the two. So the
//! proof uses what is certain: a lock was held at least from the decision to grant it until it
//! expired or somebody *began* to end it, whichever was earlier.

use std::collections::{BTreeMap, HashMap, HashSet};

pub type Micros = i64;

/// When a call began, and when its effects were certainly there.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub began: Micros,
    pub ended: Micros,
}

/// What one call said. Of a transaction that was rolled back only `Drawn` counts.
#[derive(Debug, Clone)]
pub enum Event {
    /// A grant drew this token, whatever became of it.
    Drawn {
        resource: String,
        token: i64,
        span: Span,
    },
    /// Granted or moved, which was decided between `earliest` and `from`; seen by everybody, since it
    /// was committed, from `seen` on.
    Granted {
        resource: String,
        owner: String,
        token: i64,
        earliest: Micros,
        from: Micros,
        seen: Micros,
        until: Micros,
    },
    /// The resource's lock of this token now lasts until `until`; everybody sees that from `seen` on.
    Renewed {
        resource: String,
        token: i64,
        seen: Micros,
        until: Micros,
    },
    /// The owner's lock was released, consumed, broken or moved; then `moved_to` is the token that
    /// the owner has instead.
    Ended {
        resource: String,
        owner: String,
        moved_to: Option<i64>,
        span: Span,
    },
    /// Somebody saw that nobody but `owner` had it live, as a sweep or a guarded write do.
    FreeFor {
        resource: String,
        owner: Option<String>,
        span: Span,
        by: &'static str,
    },
    /// Somebody was told that `owner` has it.
    HeldBy {
        resource: String,
        owner: String,
        span: Span,
    },
    /// The server died before it answered: from then on the owner's lock on the resource may have been
    /// taken, renewed or ended; anybody's, or on any, where none is named. By `decided` it had been, or
    /// never would be.
    Lost {
        resource: Option<String>,
        owner: Option<String>,
        began: Micros,
        decided: Micros,
    },
}

impl Event {
    /// What it is about; `None` for what may be about any.
    pub fn resource(&self) -> Option<&str> {
        match self {
            Event::Drawn { resource, .. }
            | Event::Granted { resource, .. }
            | Event::Renewed { resource, .. }
            | Event::Ended { resource, .. }
            | Event::FreeFor { resource, .. }
            | Event::HeldBy { resource, .. } => Some(resource),
            Event::Lost { resource, .. } => resource.as_deref(),
        }
    }

    /// During which time what was lost, and may be about `owner` and `resource`, took effect, if it did.
    pub(super) fn lost(&self, of_resource: &str, of_owner: &str) -> Option<Span> {
        match self {
            Event::Lost {
                resource,
                owner,
                began,
                decided,
            } => {
                let is_it = resource.as_ref().is_none_or(|r| r == of_resource)
                    && owner.as_ref().is_none_or(|o| o == of_owner);
                is_it.then_some(Span {
                    began: *began,
                    ended: *decided,
                })
            }
            _ => None,
        }
    }
}

pub(super) struct Hold {
    pub owner: String,
    pub token: i64,
    earliest: Micros,
    pub from: Micros,
    /// Held until here at least.
    pub certain: Micros,
    /// Expires here if nobody ends it before.
    expires: Micros,
    /// Since when everybody sees that it lasts until when.
    seen: Vec<(Micros, Micros)>,
}

impl Hold {
    /// Whether everybody who looked in this span saw it.
    fn was_seen_throughout(&self, span: &Span) -> bool {
        let seen = |&(since, until): &(Micros, Micros)| since <= span.began && until > span.ended;
        self.certain > span.ended && self.seen.iter().any(seen)
    }
}

/// When a lock ended, and the token that it was moved to.
type End = (Span, Option<i64>);

/// Every contradiction in a history; none proves that no two holders of a resource overlapped, that
/// tokens grew, and that nobody was told of a hold that was not there.
pub fn contradictions(events: &[Event]) -> Vec<String> {
    let mut wrong = tokens_out_of_order(events);
    let lost: Vec<_> = events
        .iter()
        .filter(|event| matches!(event, Event::Lost { .. }))
        .collect();
    let holds = holds(events);
    for (resource, holds) in &holds {
        for pair in holds.windows(2) {
            let [a, b] = pair else { unreachable!() };
            if a.token >= b.token && a.from <= b.earliest {
                wrong.push(format!(
                    "{resource}: token {} of {} at {} is not past {} of {} at {}",
                    b.token, b.owner, b.from, a.token, a.owner, a.from
                ));
            }
        }
        // Not only neighbours: a long hold may reach over several short ones.
        let mut longest: Option<&Hold> = None;
        for hold in holds.iter().filter(|hold| hold.from < hold.certain) {
            if let Some(before) = longest.filter(|before| hold.from < before.certain) {
                wrong.push(format!(
                    "{resource}: {} (token {}) had it until {} at least, {} (token {}) from {}",
                    before.owner, before.token, before.certain, hold.owner, hold.token, hold.from
                ));
            }
            if longest.is_none_or(|before| before.certain < hold.certain) {
                longest = Some(hold);
            }
        }
    }
    let none = Vec::new();
    for event in events {
        match event {
            Event::FreeFor {
                resource,
                owner,
                span,
                by,
            } => {
                let holds = holds.get(resource).unwrap_or(&none);
                let other = |hold: &&Hold| {
                    owner.as_ref() != Some(&hold.owner) && hold.was_seen_throughout(span)
                };
                wrong.extend(holds.iter().find(other).map(|hold| {
                    format!(
                        "{resource}: {by} at {span:?} did not see {} (token {}), who had it from {} until {} at least",
                        hold.owner, hold.token, hold.from, hold.certain
                    )
                }));
            }
            Event::HeldBy {
                resource,
                owner,
                span,
            } => {
                let holds = holds.get(resource).unwrap_or(&none);
                let there = |hold: &Hold| {
                    hold.owner == *owner
                        && hold.earliest <= span.ended
                        && hold.expires >= span.began
                };
                let perhaps = |lost: &&Event| {
                    lost.lost(resource, owner)
                        .is_some_and(|lost| lost.began <= span.ended)
                };
                if !holds.iter().any(there) && !lost.iter().any(perhaps) {
                    wrong.push(format!(
                        "{resource}: at {span:?} somebody was told of {owner}, who had no lock"
                    ));
                }
            }
            _ => {}
        }
    }
    wrong
}

/// Every token that was given out twice, or was not past one that had been told before.
pub fn tokens_out_of_order(events: &[Event]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut all = HashSet::new();
    let mut draws: BTreeMap<&str, Vec<(Span, i64)>> = BTreeMap::new();
    for event in events {
        if let Event::Drawn {
            resource,
            token,
            span,
        } = event
        {
            draws.entry(resource).or_default().push((*span, *token));
            if !all.insert(*token) {
                wrong.push(format!("token {token} was given out twice"));
            }
        }
    }
    for (resource, mut draws) in draws {
        let mut told = draws.clone();
        told.sort_by_key(|(span, _)| span.ended);
        draws.sort_by_key(|(span, _)| span.began);
        let mut told = told.into_iter().peekable();
        let mut largest = i64::MIN;
        for (span, token) in draws {
            while let Some((_, before)) = told.next_if(|(before, _)| before.ended < span.began) {
                largest = largest.max(before);
            }
            if token <= largest {
                wrong.push(format!(
                    "{resource}: token {token} at {span:?} is not past {largest}, told before"
                ));
            }
        }
    }
    wrong
}

/// The holds of each resource, by their beginning.
pub(super) fn holds(events: &[Event]) -> BTreeMap<String, Vec<Hold>> {
    let mut lost = Vec::new();
    let mut renewals: HashMap<i64, Vec<(Micros, Micros)>> = HashMap::new();
    let mut ends: HashMap<(&str, &str), Vec<End>> = HashMap::new();
    for event in events {
        match event {
            Event::Lost { .. } => lost.push(event),
            Event::Renewed {
                token, seen, until, ..
            } => {
                renewals.entry(*token).or_default().push((*seen, *until));
            }
            Event::Ended {
                resource,
                owner,
                moved_to,
                span,
            } => {
                let ends = ends.entry((resource, owner)).or_default();
                ends.push((*span, *moved_to));
            }
            _ => {}
        }
    }
    let mut holds: BTreeMap<String, Vec<Hold>> = BTreeMap::new();
    for event in events {
        let Event::Granted {
            resource,
            owner,
            token,
            earliest,
            from,
            seen,
            until,
        } = event
        else {
            continue;
        };
        let mut seen = vec![(*seen, *until)];
        seen.extend(renewals.get(token).into_iter().flatten());
        let expires = seen.iter().map(|&(_, until)| until).max().unwrap_or(*until);
        // An end may be meant for an earlier hold of the same owner; to count it for each that it may
        // be meant for only makes less certain.
        let ended = ends
            .get(&(resource.as_str(), owner.as_str()))
            .into_iter()
            .flatten();
        let ended = ended.filter(|(span, moved_to)| {
            span.ended >= *earliest && span.began < expires && *moved_to != Some(*token)
        });
        let lost = lost.iter().filter_map(|lost| lost.lost(resource, owner));
        let lost = lost.filter(|span| span.ended >= *earliest && span.began < expires);
        let certain = ended
            .map(|(span, _)| span.began)
            .chain(lost.map(|span| span.began))
            .map(|began| began.max(*from))
            .min()
            .unwrap_or(expires);
        holds.entry(resource.clone()).or_default().push(Hold {
            owner: owner.clone(),
            token: *token,
            earliest: *earliest,
            from: *from,
            certain,
            expires,
            seen,
        });
    }
    for holds in holds.values_mut() {
        holds.sort_by_key(|hold| (hold.from, hold.token));
    }
    holds
}
