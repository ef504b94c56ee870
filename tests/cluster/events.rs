//! What softlock.notify sends, heard by a connection that has said LISTEN softlock.

use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;
use serde_json::{Value, json};

use crate::harness::{Ask, Cluster, PATIENCE, wait_until};

/// No sweeping but by hand.
const NEVER: &str = "softlock.sweep_interval = 0";

fn listener(cluster: &Cluster, database: &str) -> Client {
    let mut client = cluster.connect(database);
    client.batch_execute("LISTEN softlock").unwrap();
    client
}

/// What has been sent since the last time, as text. Events come in the order of commits: after one that
/// is sent now, there is nothing more of what was before.
#[track_caller]
fn payloads(listener: &mut Client, speaker: &mut Client) -> Vec<String> {
    speaker.batch_execute("NOTIFY softlock, 'end'").unwrap();
    let mut heard = Vec::new();
    loop {
        let next = listener.notifications().timeout_iter(PATIENCE).next();
        let next = next.unwrap().expect("the end is heard");
        assert_eq!(next.channel(), "softlock");
        match next.payload() {
            "end" => return heard,
            payload => heard.push(payload.to_owned()),
        }
    }
}

#[track_caller]
fn heard(listener: &mut Client, speaker: &mut Client) -> Vec<Value> {
    let payloads = payloads(listener, speaker);
    let parse = |payload: &String| serde_json::from_str(payload).expect("a payload is JSON");
    payloads.iter().map(parse).collect()
}

fn event(event: &str, resource: &str, owner: &str) -> Value {
    json!({"event": event, "resource": resource, "owner": owner})
}

/// The same of a lock that has several units.
fn event_of(units: i32, name: &str, resource: &str, owner: &str) -> Value {
    json!({"event": name, "resource": resource, "owner": owner, "units": units})
}

/// A life of some locks: a call, and what it is told as with `ends` and with `all`.
fn life() -> Vec<(&'static str, Vec<Value>, Vec<Value>)> {
    let call = |call, ends: Vec<Value>, also: Vec<Value>| {
        let all = ends.iter().cloned().chain(also).collect();
        (call, ends, all)
    };
    vec![
        call(
            "SELECT softlock_acquire('kit:1', 'anna')",
            vec![],
            vec![event("granted", "kit:1", "anna")],
        ),
        call("SELECT softlock_acquire('kit:1', 'boris')", vec![], vec![]),
        call("SELECT softlock_acquire('kit:1', 'anna')", vec![], vec![]),
        call("SELECT softlock_renew('kit:1', 'anna')", vec![], vec![]),
        call(
            "SELECT softlock_acquire('kit:1', 'anna', session => 'cart')",
            vec![event("moved", "kit:1", "anna")],
            vec![],
        ),
        call(
            "SELECT softlock_release('kit:1', 'anna')",
            vec![event("released", "kit:1", "anna")],
            vec![],
        ),
        call("SELECT softlock_release('kit:1', 'anna')", vec![], vec![]),
        call(
            "SELECT softlock_acquire_many('{kit:3,kit:2,kit:4,kit:5}', 'anna')",
            vec![],
            (2..6)
                .map(|number| event("granted", &format!("kit:{number}"), "anna"))
                .collect(),
        ),
        call(
            "SELECT softlock_consume('{kit:3,kit:2}', 'anna')",
            vec![
                event("consumed", "kit:2", "anna"),
                event("consumed", "kit:3", "anna"),
            ],
            vec![],
        ),
        call(
            "SELECT softlock_break('kit:5', 'till is down')",
            vec![event("broken", "kit:5", "anna")],
            vec![],
        ),
        call(
            "SELECT softlock_transfer('{kit:4}', 'anna', 'boris')",
            vec![event("moved", "kit:4", "anna")],
            vec![event("granted", "kit:4", "boris")],
        ),
        call(
            "SELECT softlock_release_all('boris')",
            vec![event("released", "kit:4", "boris")],
            vec![],
        ),
        call(
            "SELECT softlock_acquire('rose:1', 'anna', units => 3, capacity => 9)",
            vec![],
            vec![event_of(3, "granted", "rose:1", "anna")],
        ),
        call(
            "SELECT softlock_acquire('rose:1', 'anna', units => 3, capacity => 9)",
            vec![],
            vec![],
        ),
        call(
            "SELECT softlock_acquire('rose:1', 'anna', units => 5, capacity => 9)",
            vec![],
            vec![event_of(5, "renewed", "rose:1", "anna")],
        ),
        call(
            "SELECT softlock_acquire('rose:1', 'anna', units => 2, capacity => 9)",
            vec![event_of(2, "renewed", "rose:1", "anna")],
            vec![],
        ),
        call(
            "SELECT softlock_release('rose:1', 'anna')",
            vec![event_of(2, "released", "rose:1", "anna")],
            vec![],
        ),
    ]
}

#[test]
fn each_lock_that_ends_or_is_taken_is_told_as_the_setting_says() {
    let cluster = Cluster::start(&[NEVER]);
    let mut client = cluster.with_extension("postgres");
    let mut listener = listener(&cluster, "postgres");
    for setting in ["off", "ends", "all"] {
        client
            .batch_execute(&format!("SET softlock.notify = '{setting}'"))
            .unwrap();
        for (call, ends, all) in life() {
            client.ask(call);
            let expected = match setting {
                "off" => vec![],
                "ends" => ends,
                _ => all,
            };
            let heard = heard(&mut listener, &mut client);
            assert_eq!(heard, expected, "{setting}: {call}");
        }
    }
    client.batch_execute("RESET softlock.notify").unwrap();
    assert_eq!(client.ask("SHOW softlock.notify"), "off");
}

#[test]
fn what_has_lapsed_is_told_when_it_is_swept_or_taken_by_somebody_else() {
    let cluster = Cluster::start(&[NEVER, "softlock.notify = all"]);
    let mut client = cluster.with_extension("postgres");
    client.lapse("taken");
    client.lapse("swept");
    let mut listener = listener(&cluster, "postgres");
    client.ask("SELECT softlock_acquire('taken', 'boris')");
    assert_eq!(
        heard(&mut listener, &mut client),
        [
            event("lapsed", "taken", "anna"),
            event("granted", "taken", "boris")
        ]
    );
    client.ask("SELECT softlock_sweep()");
    assert_eq!(
        heard(&mut listener, &mut client),
        [event("lapsed", "swept", "anna")]
    );
}

#[test]
fn the_worker_tells_what_it_has_swept_a_message_per_batch() {
    let cluster = Cluster::start(&[
        NEVER,
        "softlock.notify = ends",
        "softlock.sweep_batch = 100",
    ]);
    let mut client = cluster.with_extension("postgres");
    client.ask(
        "SELECT count(softlock_acquire('kit:' || g, 'anna', '1 ms')) FROM generate_series(1, 203) AS g",
    );
    client.lapse("last");
    let mut listener = listener(&cluster, "postgres");
    cluster.reload(&["softlock.sweep_interval = 1"]);
    wait_until("the sweep", || client.rows() == 0);
    let heard = heard(&mut listener, &mut client);
    let batch = json!({"event": "lapsed", "count": 100});
    assert_eq!(heard[..2], [batch.clone(), batch]);
    assert_eq!(heard.len(), 2 + 4, "{heard:?}");
    assert_eq!(heard[5], event("lapsed", "last", "anna"));
}

#[test]
fn what_is_rolled_back_is_not_told() {
    let cluster = Cluster::start(&[NEVER, "softlock.notify = all"]);
    let mut client = cluster.with_extension("postgres");
    let mut listener = listener(&cluster, "postgres");
    let take = "SELECT softlock_acquire('k', 'anna')";
    let granted = || vec![event("granted", "k", "anna")];
    for (name, begin, end, told) in [
        ("committed", "BEGIN", "COMMIT", granted()),
        ("rolled back", "BEGIN", "ROLLBACK", vec![]),
        ("failed", "BEGIN; SAVEPOINT s", "SELECT 1/0", vec![]),
        (
            "released",
            "BEGIN; SAVEPOINT a; SAVEPOINT b",
            "RELEASE a; COMMIT",
            granted(),
        ),
        (
            "undone",
            "BEGIN; SAVEPOINT a",
            "ROLLBACK TO a; COMMIT",
            vec![],
        ),
        (
            "undone with what it was released to",
            "BEGIN; SAVEPOINT a; SAVEPOINT b",
            "RELEASE b; ROLLBACK TO a; COMMIT",
            vec![],
        ),
        (
            "in a procedure's block",
            "DO $$ BEGIN",
            "RAISE '' USING ERRCODE = 'XX999'; EXCEPTION WHEN SQLSTATE 'XX999' THEN END $$",
            vec![],
        ),
    ] {
        let script = match begin.starts_with("DO") {
            true => format!("{begin} PERFORM softlock_acquire('k', 'anna'); {end}"),
            false => format!("{begin}; {take}; {end}"),
        };
        let _ = client.batch_execute(&script);
        let _ = client.batch_execute("ROLLBACK");
        assert_eq!(heard(&mut listener, &mut client), told, "{name}");
        client.ask("SELECT softlock_release('k', 'anna')");
        heard(&mut listener, &mut client);
    }
}

#[test]
fn a_cart_that_meets_a_conflict_tells_nothing_of_what_it_gave_back() {
    let cluster = Cluster::start(&[NEVER, "softlock.notify = all"]);
    let mut client = cluster.with_extension("postgres");
    client.ask("SELECT softlock_acquire('c', 'boris')");
    let mut listener = listener(&cluster, "postgres");
    client.ask("SELECT softlock_acquire_many('{a,b,c}', 'anna')");
    assert_eq!(heard(&mut listener, &mut client), Vec::<Value>::new());
}

#[test]
fn more_than_sixteen_events_of_a_transaction_are_told_as_one_with_their_count() {
    let cluster = Cluster::start(&[NEVER, "softlock.notify = all"]);
    let mut client = cluster.with_extension("postgres");
    let mut listener = listener(&cluster, "postgres");
    let take = |from: usize, to: usize| {
        format!(
            "SELECT count(softlock_acquire('k:' || g, 'anna')) FROM generate_series({from}, {to}) AS g"
        )
    };
    client.ask(&take(1, 16));
    let told = heard(&mut listener, &mut client);
    assert_eq!(told.len(), 16);
    assert_eq!(told[15], event("granted", "k:16", "anna"));
    client.ask("SELECT softlock_acquire('k:17', 'anna')");
    assert_eq!(heard(&mut listener, &mut client).len(), 1);
    client.ask("SELECT softlock_release_all('anna')");
    assert_eq!(
        heard(&mut listener, &mut client),
        [json!({"event": "released", "count": 17})]
    );
    // Of several savepoints; of the one that is rolled back nothing is counted, and what it had too many
    // of does not make the rest many.
    for (after, told) in [(18, None), (1, Some(12))] {
        let script = format!(
            "BEGIN; {}; SAVEPOINT a; {}; RELEASE a; SAVEPOINT b; {}; ROLLBACK TO b; {}; COMMIT",
            take(101, 106),
            take(201, 205),
            take(301, 330),
            take(401, 400 + after)
        );
        client.batch_execute(&script).unwrap();
        let heard = heard(&mut listener, &mut client);
        match told {
            Some(count) => assert_eq!(heard.len(), count, "{heard:?}"),
            None => assert_eq!(heard, [json!({"event": "granted", "count": 11 + after})]),
        }
        client.batch_execute("TRUNCATE softlock.locks").unwrap();
    }
    client
        .batch_execute(&format!(
            "BEGIN; {}; SELECT softlock_release('k:1', 'anna'); COMMIT",
            take(1, 16)
        ))
        .unwrap();
    assert_eq!(
        heard(&mut listener, &mut client),
        [json!({"event": "many", "count": 17})]
    );
}

#[test]
fn what_happens_twice_in_a_transaction_is_told_with_its_count() {
    let cluster = Cluster::start(&[NEVER, "softlock.notify = ends"]);
    let mut client = cluster.with_extension("postgres");
    let mut listener = listener(&cluster, "postgres");
    let once = "SELECT softlock_acquire('k', 'anna'); SELECT softlock_release('k', 'anna');";
    client
        .batch_execute(&format!("BEGIN; {once} {once} COMMIT"))
        .unwrap();
    assert_eq!(
        heard(&mut listener, &mut client),
        [json!({"event": "released", "resource": "k", "owner": "anna", "count": 2})]
    );
}

#[test]
fn every_payload_is_shorter_than_8000_bytes_and_says_the_names_exactly() {
    let cluster = Cluster::start(&[NEVER, "softlock.notify = all"]);
    let mut client = cluster.with_extension("postgres");
    let mut listener = listener(&cluster, "postgres");
    for character in [
        "chr(1)",
        "'\"'",
        "'\\'",
        "chr(31)",
        "chr(127)",
        "'\u{20ac}'",
    ] {
        let name =
            |bytes: usize| format!("repeat({character}, {bytes} / octet_length({character}))");
        let (resource, owner) = (name(1024), name(256));
        let is_locked = format!("SELECT is_locked FROM softlock_status(ARRAY[{resource}])");
        client.ask(&format!("SELECT softlock_acquire({resource}, {owner})"));
        client.ask(&format!(
            "SELECT softlock_consume(ARRAY[{resource}], {owner})"
        ));
        client.ask(&format!(
            "SELECT softlock_acquire({resource}, {owner}, '1 ms')"
        ));
        wait_until("the lapse", || client.ask(&is_locked) == "f");
        client.ask("SELECT softlock_sweep()");
        // The same four times in one transaction.
        let pair = format!(
            "SELECT softlock_acquire({resource}, {owner}); SELECT softlock_consume(ARRAY[{resource}], {owner});"
        );
        client
            .batch_execute(&format!("BEGIN; {pair} {pair} {pair} {pair} COMMIT"))
            .unwrap();
        let payloads = payloads(&mut listener, &mut client);
        assert_eq!(payloads.len(), 4 + 2, "{character}");
        for payload in payloads {
            assert!(payload.len() < 8000, "{character}: {}", payload.len());
            let told: Value = serde_json::from_str(&payload).expect("JSON");
            for (key, name) in [("resource", &resource), ("owner", &owner)] {
                let name = client.ask(&format!("SELECT {name}"));
                assert_eq!(
                    told[key].as_str(),
                    Some(name.as_str()),
                    "{character}: {key}"
                );
            }
        }
    }
}

#[test]
fn a_transaction_that_is_prepared_tells_nothing_and_can_be_committed() {
    let cluster = Cluster::start(&[NEVER, "softlock.notify = all"]);
    let mut client = cluster.with_extension("postgres");
    let mut listener = listener(&cluster, "postgres");
    client
        .batch_execute("BEGIN; SELECT softlock_acquire('k', 'anna'); PREPARE TRANSACTION 'p'")
        .unwrap();
    client.batch_execute("COMMIT PREPARED 'p'").unwrap();
    client.ask("SELECT softlock_acquire('other', 'anna')");
    assert_eq!(
        heard(&mut listener, &mut client),
        [event("granted", "other", "anna")]
    );
    assert_eq!(client.rows(), 2);
}

#[test]
fn only_a_superuser_says_what_is_told() {
    let cluster = Cluster::start(&[NEVER]);
    let mut client = cluster.with_extension("postgres");
    client
        .batch_execute("CREATE ROLE till; SET ROLE till")
        .unwrap();
    for setting in ["softlock.notify", "softlock.history"] {
        let error = client.batch_execute(&format!("SET {setting} = off"));
        let error = error.expect_err("it is the superuser's");
        assert_eq!(error.code().map(|code| code.code()), Some("42501"));
    }
    // What the superuser has set for the database holds for all.
    client
        .batch_execute("RESET ROLE; ALTER DATABASE postgres SET softlock.notify = 'ends'")
        .unwrap();
    let mut client = cluster.connect("postgres");
    let mut listener = listener(&cluster, "postgres");
    client.batch_execute("SET ROLE till").unwrap();
    client.ask("SELECT softlock_acquire('k', 'anna')");
    client.ask("SELECT softlock_release('k', 'anna')");
    assert_eq!(
        heard(&mut listener, &mut client),
        [event("released", "k", "anna")]
    );
}
