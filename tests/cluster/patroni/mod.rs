//! Failover under Patroni: three servers, of which the leader is switched over, killed and cut off while the
//! checker's connections go on. `tests/run` has them in a suite of their own, `patroni`.

mod fleet;
mod node;
mod ports;
mod proxy;
mod traffic;

use std::time::Duration;

use crate::checker::client::Counts;
use crate::checker::history::contradictions;
use crate::checker::{SHOP, add, largest_told, rng, seconds};
use crate::harness::{Ask, wait_until};
use fleet::Fleet;
use node::TTL;
use traffic::{Disturbance, Told, disturb};

/// How long there is traffic before, and after, something happens.
fn time() -> Duration {
    Duration::from_secs((seconds() / 4).max(1))
}

fn say(mode: &str, disturbance: Disturbance, told: &Told, more: &str) {
    let grants = told.counts.get("granted").copied().unwrap_or_default();
    println!(
        "patroni: {mode}, {disturbance:?}: another leader after {:.1} s, tills stood still for {:.1} s (ttl {TTL} s), {grants} grants{more}",
        told.promoted_after.as_secs_f32(),
        told.standstill.as_secs_f32(),
    );
}

/// That the launcher is where the leader is, and sweeps there.
#[track_caller]
fn sweeps_on_the_leader_only(fleet: &Fleet) {
    let leader = fleet.leader();
    let launchers =
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'softlock launcher'";
    wait_until("a launcher on the leader only", || {
        fleet.nodes.iter().enumerate().all(|(at, node)| {
            let client = node.config().connect(postgres::NoTls);
            let expected = if at == leader { "1" } else { "0" };
            client.is_ok_and(|mut client| client.ask(launchers) == expected)
        })
    });
    let mut client = fleet.connect();
    client.lapse("swept");
    wait_until("a sweep", || {
        client.ask("SELECT count(*) FROM softlock.locks WHERE resource = 'swept'") == "0"
    });
}

/// How many items were sold more than once.
fn sold_twice(fleet: &Fleet) -> String {
    fleet
        .connect()
        .ask("SELECT count(*) FROM (SELECT FROM sold GROUP BY item HAVING count(*) > 1) AS twice")
}

/// The next round knows nothing of this one's holds.
fn free_all(fleet: &Fleet) {
    fleet
        .connect()
        .batch_execute("SELECT softlock_break(resource) FROM softlock_active")
        .unwrap();
}

#[test]
fn synchronous_failover_loses_no_hold_and_no_sale_and_never_has_two_holders() {
    let fleet = Fleet::start(true);
    fleet.connect().batch_execute(SHOP).unwrap();
    sweeps_on_the_leader_only(&fleet);
    let mut rng = rng();
    let (mut counts, mut tokens) = (Counts::new(), Vec::new());
    for disturbance in [
        Disturbance::SwitchedOver,
        Disturbance::Killed,
        Disturbance::CutOff,
        Disturbance::Frozen,
    ] {
        let mut told = disturb(&fleet, disturbance, time(), &mut rng);
        told.at_old.append(&mut tokens);
        let events = told.events();
        tokens = largest_told(&events);
        let (stale, mut wrong): (Vec<_>, _) = contradictions(&events)
            .into_iter()
            .partition(|wrong| is_of_an_old_leader(disturbance, wrong));
        wrong.extend(told.not_past());
        wrong.extend(told.lost.iter().cloned());
        let stale = stale.iter().filter(|wrong| wrong.contains("did not see"));
        let more = match stale.count() {
            0 => String::new(),
            n => format!(", {n} looks at the old leader were out of date"),
        };
        say("synchronous", disturbance, &told, &more);
        assert!(wrong.is_empty(), "{disturbance:?}:\n{}", wrong.join("\n"));
        assert_eq!(sold_twice(&fleet), "0", "{disturbance:?}");
        add(&mut counts, told.counts);
        let sold = fleet.connect().ask("SELECT count(*) FROM sold");
        let count = |what: &str| counts.get(what).copied().unwrap_or_default();
        let (confirmed, perhaps) = (count("sold"), count("sold perhaps"));
        assert!(
            (confirmed..=confirmed + perhaps).contains(&sold.parse().unwrap()),
            "{disturbance:?}: {sold} sales, of which {confirmed} were confirmed"
        );
        free_all(&fleet);
        sweeps_on_the_leader_only(&fleet);
    }
    for what in ["granted", "held", "sold", "reconnected", "guarded write"] {
        assert!(counts.contains_key(what), "never happened: {what}");
    }
}

/// What is not wrong while an old leader goes on beside the new one: who only looks there sees what was, and
/// who takes there is told a smaller token, or the same, and never that it was committed.
fn is_of_an_old_leader(disturbance: Disturbance, wrong: &str) -> bool {
    let about = ["softlock_status", "given out twice", "told before"];
    disturbance == Disturbance::Frozen && about.iter().any(|about| wrong.contains(about))
}

#[test]
fn asynchronous_failover_may_lose_the_last_holds_and_its_tokens_grow_all_the_same() {
    let fleet = Fleet::start(false);
    fleet.connect().batch_execute(SHOP).unwrap();
    sweeps_on_the_leader_only(&fleet);
    let mut rng = rng();
    let mut tokens = Vec::new();
    for disturbance in [Disturbance::SwitchedOver, Disturbance::Frozen] {
        let mut told = disturb(&fleet, disturbance, time(), &mut rng);
        told.at_old.append(&mut tokens);
        let events = told.events();
        tokens = largest_told(&events);
        let wrong = contradictions(&events);
        let overlaps = wrong.iter().filter(|wrong| wrong.contains("had it until"));
        let sold = told.counts.get("sold").copied().unwrap_or_default();
        let kept: u64 = fleet
            .connect()
            .ask("WITH s AS (DELETE FROM sold RETURNING 1) SELECT count(*) FROM s")
            .parse()
            .unwrap();
        let more = format!(
            ", {} times two holders, {} holds and {} of {sold} sales lost",
            overlaps.count(),
            told.lost.len(),
            sold.saturating_sub(kept),
        );
        say("asynchronous", disturbance, &told, &more);
        let wrong = told.not_past();
        assert!(wrong.is_empty(), "{disturbance:?}:\n{}", wrong.join("\n"));
        free_all(&fleet);
        sweeps_on_the_leader_only(&fleet);
    }
    // The leader's last moments, which no standby has heard of.
    let take =
        "SELECT string_agg(softlock_acquire('last:' || n, 'anna', '1 h')->>'token', ' ' ORDER BY n)
                FROM generate_series(1, 20) AS n";
    let old = fleet.leader();
    let mut client = fleet.connect();
    fleet.nodes[old].stop_sending();
    let before = client.ask(take);
    fleet.nodes[old].kill();
    fleet.leader_after(old);
    let mut client = fleet.connect();
    let there = "SELECT count(*) FROM softlock_active WHERE resource LIKE 'last:%'";
    assert_eq!(client.ask(there), "0");
    let after = client.ask(&take.replace("anna", "boris"));
    let numbers =
        |text: &str| -> Vec<i64> { text.split(' ').map(|n| n.parse().unwrap()).collect() };
    let (before, after) = (numbers(&before), numbers(&after));
    assert_eq!(after.len(), 20);
    let grow = before
        .iter()
        .zip(&after)
        .all(|(before, after)| before < after);
    assert!(grow, "{before:?} {after:?}");
    println!("patroni: asynchronous, killed behind a lag: 20 of 20 holds lost, all tokens larger");
}
