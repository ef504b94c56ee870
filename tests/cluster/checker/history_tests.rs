//! The proof itself, tried on small histories.

use super::history::*;

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

fn drawn(token: i64, began: Micros, ended: Micros) -> Event {
    let span = Span { began, ended };
    Event::Drawn {
        resource: "k".into(),
        token,
        span,
    }
}

fn renewed(token: i64, seen: Micros, until: Micros) -> Event {
    Event::Renewed {
        resource: "k".into(),
        token,
        seen,
        until,
    }
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
    caught(&[drawn(1, 0, 1), drawn(1, 2, 3)], "twice");
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

#[test]
fn a_token_told_in_vain_counts_too() {
    caught(&[drawn(5, 0, 1), drawn(4, 2, 3)], "told before");
    // Which of two that overlap was drawn first is not known.
    let history = [drawn(5, 0, 2), drawn(4, 1, 3), drawn(6, 4, 5)];
    assert_eq!(contradictions(&history), Vec::<String>::new());
}

#[test]
fn what_may_have_been_ended_or_taken_when_the_server_died_proves_nothing() {
    let lost = Event::Lost {
        resource: Some("k".into()),
        owner: Some("anna".into()),
        began: 5,
        decided: Micros::MAX,
    };
    let span = Span { began: 6, ended: 7 };
    let history = [
        granted("anna", 1, 0, 10),
        lost.clone(),
        granted("boris", 2, 6, 20),
    ];
    assert_eq!(contradictions(&history), Vec::<String>::new());
    let told = Event::HeldBy {
        resource: "k".into(),
        owner: "anna".into(),
        span,
    };
    assert_eq!(contradictions(&[lost.clone(), told]), Vec::<String>::new());
    // Held for an hour by her, who came back at 8 and took it at 9.
    let mut decided = lost.clone();
    if let Event::Lost { decided, .. } = &mut decided {
        *decided = 8;
    }
    let mut history = [
        decided,
        granted("anna", 1, 9, 99),
        granted("boris", 2, 20, 50),
    ];
    caught(&history, "at least");
    history[0] = lost;
    assert_eq!(contradictions(&history), Vec::<String>::new());
}
