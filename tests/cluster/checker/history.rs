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
    Drawn { token: i64 },
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
    /// The lock of this token now lasts until `until`; everybody sees that from `seen` on.
    Renewed {
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
}

struct Hold {
    owner: String,
    token: i64,
    earliest: Micros,
    from: Micros,
    /// Held until here at least.
    certain: Micros,
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
    let mut wrong = Vec::new();
    let holds = holds(events, &mut wrong);
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
                if !holds.iter().any(there) {
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

/// The holds of each resource, by their beginning.
fn holds(events: &[Event], wrong: &mut Vec<String>) -> BTreeMap<String, Vec<Hold>> {
    let mut drawn = HashSet::new();
    let mut renewals: HashMap<i64, Vec<(Micros, Micros)>> = HashMap::new();
    let mut ends: HashMap<(&str, &str), Vec<End>> = HashMap::new();
    for event in events {
        match event {
            Event::Drawn { token } if !drawn.insert(*token) => {
                wrong.push(format!("token {token} was given out twice"));
            }
            Event::Renewed { token, seen, until } => {
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
        let certain = ended
            .map(|(span, _)| span.began.max(*from))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(owner: &str, token: i64, from: Micros, until: Micros) -> Event {
        Event::Granted {
            resource: "k".into(),
            owner: owner.into(),
            token,
            earliest: from,
            from,
            seen: from,
            until,
        }
    }

    fn renewed(token: i64, seen: Micros, until: Micros) -> Event {
        Event::Renewed { token, seen, until }
    }

    fn ended(owner: &str, began: Micros, ended: Micros) -> Event {
        Event::Ended {
            resource: "k".into(),
            owner: owner.into(),
            moved_to: None,
            span: Span { began, ended },
        }
    }

    fn caught(events: &[Event], by: &str) {
        let wrong = contradictions(events);
        assert!(wrong.iter().any(|w| w.contains(by)), "{wrong:?}");
    }

    #[test]
    fn holds_that_follow_each_other_are_no_contradiction() {
        let history = [
            granted("anna", 1, 0, 10),
            granted("boris", 2, 10, 30),
            ended("boris", 15, 17),
            granted("anna", 3, 16, 20), // while boris's release was under way
            renewed(3, 18, 40),
            granted("boris", 4, 40, 50),
        ];
        assert_eq!(contradictions(&history), Vec::<String>::new());
    }

    #[test]
    fn a_lock_that_was_moved_is_held_under_its_new_token() {
        let moved = |ended: Micros| {
            let span = Span { began: 5, ended };
            [
                granted("anna", 1, 0, 10),
                Event::Ended {
                    resource: "k".into(),
                    owner: "anna".into(),
                    moved_to: Some(2),
                    span,
                },
                Event::Granted {
                    resource: "k".into(),
                    owner: "anna".into(),
                    token: 2,
                    earliest: span.began,
                    from: ended,
                    seen: ended,
                    until: 20,
                },
            ]
        };
        assert_eq!(contradictions(&moved(7)), Vec::<String>::new());
        // Released by another connection before the answer of the move had come.
        let mut history = moved(12).to_vec();
        history.extend([ended("anna", 6, 8), granted("boris", 3, 8, 20)]);
        assert_eq!(contradictions(&history), Vec::<String>::new());
        let mut history = moved(7).to_vec();
        history.push(granted("boris", 3, 11, 20));
        caught(&history, "boris");
    }

    #[test]
    fn an_overlap_is_caught_also_beyond_a_neighbour() {
        caught(
            &[granted("anna", 1, 0, 10), granted("boris", 2, 9, 20)],
            "at least",
        );
        let history = [
            granted("anna", 1, 0, 100),
            granted("boris", 2, 10, 11),
            ended("boris", 10, 10),
            granted("clara", 3, 50, 60),
        ];
        caught(&history, "clara");
    }

    #[test]
    fn a_grant_before_a_release_or_within_a_renewal_is_caught() {
        let history = [
            granted("anna", 1, 0, 100),
            ended("anna", 20, 25),
            granted("boris", 2, 19, 30),
        ];
        caught(&history, "boris");
        let history = [
            granted("anna", 1, 0, 10),
            renewed(1, 8, 30),
            granted("boris", 2, 20, 40),
        ];
        caught(&history, "boris");
    }

    #[test]
    fn tokens_out_of_order_or_given_out_twice_are_caught() {
        caught(
            &[granted("anna", 2, 0, 10), granted("boris", 1, 20, 30)],
            "not past",
        );
        caught(
            &[Event::Drawn { token: 1 }, Event::Drawn { token: 1 }],
            "twice",
        );
    }

    #[test]
    fn a_live_lock_overlooked_and_a_holder_made_up_are_caught() {
        let span = Span { began: 5, ended: 7 };
        let free_for = |owner: Option<&str>| Event::FreeFor {
            resource: "k".into(),
            owner: owner.map(Into::into),
            span,
            by: "a sweep",
        };
        let held_by = |owner: &str| Event::HeldBy {
            resource: "k".into(),
            owner: owner.into(),
            span,
        };
        let anna = granted("anna", 1, 0, 10);
        caught(&[anna.clone(), free_for(None)], "a sweep");
        caught(&[anna.clone(), free_for(Some("boris"))], "a sweep");
        caught(&[anna.clone(), held_by("boris")], "who had no lock");
        let history = [anna, free_for(Some("anna")), held_by("anna")];
        assert_eq!(contradictions(&history), Vec::<String>::new());
    }
}
