//! The randomized checker through the router, while two servers become four.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use super::servers::Sharded;
use crate::checker::client::{Counts, now};
use crate::checker::history::{Event, Span, contradictions};
use crate::checker::{Disturbance, Load, add, compare, load, rng, rows, run, seconds};
use crate::harness::Ask;

/// On every server: what was sold, with nothing but the locks to keep it from being sold twice, and the
/// checkout, in which a hold ends together with the sale.
const SHOP: &str = "
    CREATE TABLE sold (item text NOT NULL);
    CREATE FUNCTION sell(resources text[], owner text, tokens bigint[]) RETURNS jsonb LANGUAGE plpgsql AS $$
    DECLARE
        sold_now bigint;
    BEGIN
        PERFORM softlock_consume(resources, owner, tokens);
        PERFORM pg_sleep(random() / 500);
        INSERT INTO sold SELECT r FROM unnest(resources) AS r WHERE NOT EXISTS (SELECT FROM sold WHERE item = r);
        GET DIAGNOSTICS sold_now = ROW_COUNT;
        RETURN to_jsonb(sold_now);
    END $$";

const CHECKOUT: &str = "
    CREATE FUNCTION sell(resources text[], owner text, tokens bigint[]) RETURNS jsonb LANGUAGE plproxy AS $$
        CLUSTER 'softlock'; RUN ON softlock_router.hash_of_all(resources);
    $$";

#[test]
fn no_two_holders_overlap_and_no_hold_is_lost_while_two_servers_become_four() {
    let sharded = Sharded::start(2, 4, &["softlock.sweep_interval = 1"]);
    sharded.on_every_server(SHOP);
    sharded.connect().batch_execute(CHECKOUT).unwrap();
    let mut rng = rng();
    let mut loads: Vec<Load> = vec![load::routed_keys; 6];
    loads.extend([load::routed_till as Load; 6]);
    loads.extend([load::routed_long_holds as Load; 4]);
    loads.push(load::routed_administrator);
    let slice = Duration::from_secs((seconds() / 4).max(1));
    let began = now();
    let (mut events, mut counts) = (Vec::new(), Counts::new());
    let mut go_on = || {
        let (more, its_counts) = run(
            &sharded.router,
            &loads,
            slice,
            Disturbance::default(),
            &mut rng,
        );
        events.extend(more);
        add(&mut counts, its_counts);
    };
    go_on();
    thread::scope(|scope| {
        let split = scope.spawn(|| sharded.split("sold.item"));
        while !split.is_finished() {
            go_on();
        }
        let split = split.join().unwrap();
        let said = String::from_utf8_lossy(&split.stderr);
        assert!(split.status.success(), "{said}");
    });
    go_on();
    println!("{counts:#?}");
    let mut wrong = Vec::new();
    // What is kept by one server to the end has its tokens from one clock at a time.
    for (server, events) in by_server(&sharded, events).into_iter().enumerate() {
        wrong.extend(contradictions(&events));
        let at = now();
        let rows = rows(&mut sharded.servers[server].connect("postgres"), began);
        let span = Span {
            began: at,
            ended: now(),
        };
        wrong.extend(compare(&events, &rows, span));
        assert!(!rows.is_empty(), "server {server} keeps nothing");
    }
    assert!(
        wrong.is_empty(),
        "{} contradictions:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert_nothing_was_sold_twice(&sharded);
    for what in [
        "granted",
        "renewed",
        "moved",
        "held",
        "release: released",
        "release: held",
        "renew: renewed",
        "release_all",
        "cart taken",
        "cart refused",
        "sold",
        "broken",
        "swept",
        "status",
        "error SL001",
        "error 55000",
    ] {
        assert!(counts.contains_key(what), "never happened: {what}");
    }
}

/// The history of each of the four servers that there are in the end.
fn by_server(sharded: &Sharded, events: Vec<Event>) -> [Vec<Event>; 4] {
    let names: BTreeSet<_> = events.iter().filter_map(Event::resource).collect();
    let names: Vec<_> = names.into_iter().map(str::to_owned).collect();
    let asked = sharded.connect().query(
        "SELECT r, softlock_router.hash(r) & 3 FROM unnest($1::text[]) AS r",
        &[&names],
    );
    let asked = asked.unwrap();
    let servers: BTreeMap<String, i32> = asked.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut histories: [Vec<Event>; 4] = Default::default();
    for event in events {
        match event.resource() {
            Some(resource) => histories[servers[resource] as usize].push(event),
            None => histories
                .iter_mut()
                .for_each(|history| history.push(event.clone())),
        }
    }
    histories
}

fn assert_nothing_was_sold_twice(sharded: &Sharded) {
    let mut items = BTreeSet::new();
    for (at, server) in sharded.servers.iter().enumerate() {
        let mut client = server.connect("postgres");
        for row in client.query("SELECT item FROM sold", &[]).unwrap() {
            let item: String = row.get(0);
            assert!(items.insert(item.clone()), "{item} was sold twice");
        }
        let elsewhere =
            format!("SELECT count(*) FROM sold WHERE softlock_router.hash(item) & 3 <> {at}");
        assert_eq!(
            client.ask(&elsewhere),
            "0",
            "sales that should have moved from {at}"
        );
    }
}
