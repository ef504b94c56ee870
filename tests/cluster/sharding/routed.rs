//! What the router answers is what one server would.

use std::thread;
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use serde_json::Value;

use super::servers::Sharded;
use crate::examples::pages::Page;
use crate::harness::{Ask, Cluster, wait_until};
use crate::worker_watch::OFF;

/// What an answer says apart from when.
fn timeless(answer: &str) -> String {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                let times = [
                    "token",
                    "acquired_at",
                    "expires_at",
                    "retry_after_ms",
                    "timestamp",
                    "duration_ms",
                ];
                fields.retain(|name, _| !times.contains(&name.as_str()));
                fields.values_mut().for_each(strip);
            }
            Value::Array(elements) => elements.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::from_str(answer).unwrap_or(Value::String(answer.into()));
    strip(&mut value);
    value.to_string()
}

/// The first column of all rows, or the SQLSTATE.
fn answers(client: &mut Client, sql: &str) -> Vec<String> {
    match client.query(&format!("SELECT a::text FROM ({sql}) AS q(a)"), &[]) {
        Ok(rows) => rows
            .iter()
            .map(|row| timeless(row.get::<_, Option<&str>>(0).unwrap_or("NULL")))
            .collect(),
        Err(error) => vec![error.code().expect(sql).code().to_owned()],
    }
}

const ASKED: &[&str] = &[
    "SELECT softlock_acquire('kit:' || n, 'anna', session => 'cart', metadata => '{\"till\": 1}') FROM generate_series(1, 20) AS n",
    "SELECT softlock_acquire('kit:' || n, 'boris') FROM generate_series(1, 20) AS n",
    "SELECT softlock_acquire('kit:1', 'anna', session => 'other')",
    "SELECT softlock_acquire('kit:1', 'anna', ttl => '-1 s')",
    "SELECT softlock_acquire(NULL, 'anna')",
    "SELECT softlock_acquire('rose', 'anna', units => 3, capacity => 10)",
    "SELECT softlock_acquire('rose', 'boris', units => 8, capacity => 10)",
    "SELECT softlock_renew('kit:2', 'anna', '2 hours')",
    "SELECT softlock_renew('kit:2', 'boris')",
    "SELECT softlock_renew('kit:2', 'anna', token => 1)",
    "SELECT softlock_release('kit:3', 'anna')",
    "SELECT softlock_release('kit:3', 'anna')",
    "SELECT softlock_acquire_many(ARRAY['seat:{c}:3', 'seat:{c}:1', 'food:{c}:2'], 'anna', session => 'c')",
    "SELECT softlock_acquire_many(ARRAY['seat:{c}:3', 'seat:{c}:9', 'food:{c}:2'], 'boris')",
    "SELECT softlock_acquire_many('{}', 'anna')",
    "SELECT softlock_acquire_many(NULL, 'anna')",
    "SELECT softlock_acquire_many(ARRAY['seat:{c}:3', NULL], 'anna')",
    "SELECT softlock_acquire_any(ARRAY['seat:{c}:3', 'seat:{c}:8', 'seat:{c}:7'], 'boris', 2)",
    "SELECT softlock_transfer(ARRAY['seat:{c}:3', 'seat:{c}:1'], 'anna', 'carla')",
    "SELECT softlock_transfer(ARRAY['seat:{c}:3', 'seat:{c}:1'], 'anna', 'carla')",
    "SELECT s::text FROM (SELECT resource, is_locked, locked_by_me, owner, session, metadata, units
        FROM softlock_status(ARRAY['kit:9', 'nobody', 'kit:1', 'rose', 'kit:9', 'seat:{c}:3'], 'anna')) AS s",
    "SELECT resource FROM softlock_status('{}')",
    "SELECT resource FROM softlock_status(NULL)",
    "SELECT resource FROM softlock_status(ARRAY['k', NULL])",
    "SELECT a::text FROM (SELECT resource, owner, session, role::text, metadata, units FROM softlock_active
        ORDER BY resource COLLATE \"C\", owner) AS a",
    "SELECT count(*) FROM softlock_pending()",
    "SELECT softlock_renew_all('anna')",
    "SELECT softlock_renew_all('anna', session => 'cart', ttl => '3 hours')",
    "SELECT softlock_renew_all('nobody')",
    "SELECT softlock_break('kit:4', 'because')",
    "SELECT softlock_break('kit:4')",
    "SELECT softlock_break_all()",
    "SELECT softlock_break_all(prefix => 'kit:1', reason => 'because')",
    "SELECT softlock_release_all('anna', session => 'cart')",
    "SELECT softlock_release_all('anna')",
    "SELECT softlock_acquire('short:' || n, 'anna', '1 ms') FROM generate_series(1, 20) AS n",
    "SELECT pg_sleep(0.01)",
    "SELECT softlock_sweep(max_rows => 7)->'released_count'",
    "SELECT jsonb_array_length(softlock_sweep()->'affected')",
    "SELECT softlock_sweep(0)",
    "SELECT softlock_sweep()",
    "SELECT n FROM (SELECT count(softlock_acquire('many:' || n, 'anna')) FROM generate_series(1, 1100) AS n) AS m(n)",
    "SELECT jsonb_array_length(b->'locks') || ' ' || (b - 'locks') FROM softlock_break_all('anna') AS b",
];

#[test]
fn the_router_answers_as_one_server_does() {
    let sharded = Sharded::start(2, 2, &[OFF]);
    let alone = Cluster::start(&[OFF]);
    let (mut routed, mut alone) = (sharded.connect(), alone.with_extension("postgres"));
    for sql in ASKED {
        assert_eq!(answers(&mut routed, sql), answers(&mut alone, sql), "{sql}");
    }
}

#[test]
fn the_router_has_the_verbs_by_name_and_signature() {
    let sharded = Sharded::start(2, 2, &[OFF]);
    // What is looked at on each server, or belongs to its tables.
    let not_there = [
        "softlock_adopt",
        "softlock_check",
        "softlock_disown",
        "softlock_guard",
        "softlock_pending",
    ];
    let functions = |client: &mut Client| -> Vec<(String, String)> {
        let found = client.query(
            "SELECT proname::text, format('(%s) returns %s', pg_get_function_arguments(oid), pg_get_function_result(oid))
             FROM pg_proc WHERE proname LIKE 'softlock\\_%' AND pronamespace = 'public'::regnamespace ORDER BY 1",
            &[],
        );
        let found = found.unwrap();
        let all = found.iter().map(|row| (row.get(0), row.get(1)));
        all.filter(|(name, _): &(String, String)| !not_there.contains(&name.as_str()))
            .collect()
    };
    let server = functions(&mut sharded.servers[0].connect("postgres"));
    assert_eq!(functions(&mut sharded.connect()), server);
}

#[test]
fn what_can_not_be_all_or_nothing_is_refused() {
    let sharded = Sharded::start(2, 2, &[OFF]);
    let mut client = sharded.connect();
    for sql in [
        "SELECT softlock_acquire_many(ARRAY['kit:1', 'kit:2'], 'anna')",
        "SELECT softlock_acquire_any(ARRAY['seat:{a}:1', 'seat:{b}:1'], 'anna')",
        "SELECT softlock_transfer(ARRAY['kit:1', 'kit:2'], 'anna', 'boris')",
        "SELECT softlock_transfer(NULL, 'anna', 'boris')",
        "SELECT softlock_consume(ARRAY['kit:1'], 'anna')",
    ] {
        assert_eq!(answers(&mut client, sql), ["0A000"], "{sql}");
    }
    assert_eq!(client.ask("SELECT count(*) FROM softlock_active"), "0");
}

#[test]
fn the_checkout_that_the_page_shows_sells_what_is_held() {
    let sharded = Sharded::start(2, 2, &[OFF]);
    let blocks = Page::read("docs/scaling.md").blocks("sql");
    let [_, on_each_server, on_the_router] = &blocks[..] else {
        panic!("{} examples", blocks.len());
    };
    sharded.on_every_server(&on_each_server.text);
    let mut client = sharded.connect();
    client.batch_execute(&on_the_router.text).unwrap();
    let cart = "ARRAY['seat:{concert-9}:12', 'food:{concert-9}:3']";
    client.ask(&format!("SELECT softlock_acquire_many({cart}, 'anna')"));
    let sell = |owner: &str| format!("SELECT sell({cart}, '{owner}')");
    assert_eq!(answers(&mut client, &sell("boris")), ["SL001"]);
    assert_eq!(answers(&mut client, &sell("anna")), [r#"{"sold":true}"#]);
    assert_eq!(answers(&mut client, &sell("anna")), ["SL001"]);
    assert_eq!(client.ask("SELECT count(*) FROM softlock_active"), "0");
}

#[test]
fn a_call_that_went_astray_decides_nothing_on_the_router() {
    let sharded = Sharded::start(2, 2, &[OFF]);
    let mut client = sharded.connect();
    client
        .batch_execute("CREATE SCHEMA astray; CREATE EXTENSION softlock SCHEMA astray")
        .unwrap();
    let sql = "SELECT astray.softlock_acquire('kit:1', 'anna')";
    assert_eq!(answers(&mut client, sql), ["55000"]);
    assert_eq!(
        client.ask("SELECT softlock_acquire('kit:1', 'anna')->>'outcome'"),
        "granted"
    );
}

#[test]
fn each_server_decides_what_the_calling_role_may_do() {
    let sharded = Sharded::start(2, 2, &[OFF]);
    sharded.on_every_server("CREATE ROLE till LOGIN; CREATE ROLE manager LOGIN; GRANT EXECUTE ON FUNCTION softlock_break TO manager");
    let mut client = sharded.connect();
    client
        .batch_execute("CREATE ROLE till LOGIN; CREATE ROLE manager LOGIN; SET ROLE till")
        .unwrap();
    assert_eq!(
        client.ask("SELECT softlock_acquire('kit:1', 'anna')->>'outcome'"),
        "granted"
    );
    let refused = [
        "SELECT softlock_break('kit:1')",
        "SELECT softlock_break_all('anna')",
        "SELECT softlock_sweep()",
        "SELECT resource FROM softlock_active",
    ];
    for sql in refused {
        assert_eq!(answers(&mut client, sql), ["42501"], "{sql}");
    }
    client.batch_execute("SET ROLE manager").unwrap();
    let held = client.ask("SELECT softlock_acquire('kit:1', 'anna')");
    assert!(held.contains(r#""role": "till""#), "{held}");
    assert_eq!(
        client.ask("SELECT softlock_break('kit:1')->>'role'"),
        "till"
    );
}

#[test]
fn resources_are_spread_evenly_and_those_of_one_key_are_together() {
    let sharded = Sharded::start(2, 2, &[OFF]);
    let mut client = sharded.connect();
    let counts = "SELECT string_agg(n::text, ' ') FROM (
        SELECT count(*) AS n FROM generate_series(1, 40000) AS k GROUP BY softlock_router.hash('kit:' || k) & 3) AS c";
    for count in client.ask(counts).split(' ') {
        let count: i32 = count.parse().unwrap();
        assert!(
            (9_500..10_500).contains(&count),
            "{count} of 40000 on one of four servers"
        );
    }
    let together = "SELECT count(DISTINCT softlock_router.hash(kind || ':{concert-9}:' || k))
                    FROM generate_series(1, 100) AS k, unnest('{seat,food}'::text[]) AS kind";
    assert_eq!(client.ask(together), "1");
}

#[test]
fn a_server_that_is_down_takes_only_its_own_resources_along() {
    let sharded = Sharded::start(2, 2, &[OFF]);
    let mut client = sharded.connect();
    let keys: Vec<_> = (0..20).map(|n| format!("kit:{n}")).collect();
    sharded.servers[1].stop("fast");
    let (mut up, mut down) = (0, 0);
    for key in &keys {
        let done = client.simple_query(&format!("SELECT softlock_acquire('{key}', 'anna')"));
        let is_up = sharded.server_of(key, 2) == 0;
        assert_eq!(done.is_ok(), is_up, "{key}");
        if is_up { up += 1 } else { down += 1 }
    }
    assert!(up > 0 && down > 0);
    sharded.servers[1].up();
    for key in &keys {
        assert_eq!(
            client.ask(&format!(
                "SELECT softlock_acquire('{key}', 'anna')->>'acquired'"
            )),
            "true"
        );
    }
}

/// How many wait for a lock on the server of `kit:1`.
fn waiters(sharded: &Sharded) -> String {
    let server = sharded.server_of("kit:1", 2);
    sharded.servers[server].connect("postgres").ask(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%softlock_acquire%'
             AND pid <> pg_backend_pid()",
    )
}

const WAIT: &str = "SELECT softlock_acquire('kit:1', 'boris', wait => '30 s')->>'outcome'";

#[test]
fn who_waits_through_the_router_is_let_in_by_a_release() {
    let sharded = Sharded::start(2, 2, &[OFF]);
    let mut anna = sharded.connect();
    anna.ask("SELECT softlock_acquire('kit:1', 'anna')");
    thread::scope(|scope| {
        let boris = scope.spawn(|| {
            let outcome = sharded.connect().ask(WAIT);
            (outcome, Instant::now())
        });
        wait_until("a waiter", || waiters(&sharded) == "1");
        anna.ask("SELECT softlock_release('kit:1', 'anna')");
        let released = Instant::now();
        let (outcome, granted) = boris.join().unwrap();
        assert_eq!(outcome, "granted");
        assert!(granted.saturating_duration_since(released) < Duration::from_secs(10));
    });
}

#[test]
fn who_waits_through_the_router_can_be_cancelled_and_who_has_gone_is_granted_nothing() {
    let sharded = Sharded::start(2, 2, &[OFF]);
    // Else the router notices that its client has gone only when it answers.
    sharded
        .router
        .reload(&["client_connection_check_interval = 100ms"]);
    let mut anna = sharded.connect();
    anna.ask("SELECT softlock_acquire('kit:1', 'anna')");
    thread::scope(|scope| {
        let mut boris = sharded.connect();
        let cancel = boris.cancel_token();
        let cancelled = scope.spawn(move || boris.simple_query(WAIT).expect_err("it is cancelled"));
        wait_until("a waiter", || waiters(&sharded) == "1");
        cancel.cancel_query(NoTls).unwrap();
        let error = cancelled.join().unwrap();
        assert_eq!(
            error.code().map(|code| code.code()),
            Some("57014"),
            "{error:?}"
        );
        wait_until("its end on the server, too", || waiters(&sharded) == "0");
    });
    let mut psql = sharded
        .router
        .program("psql")
        .args(["-d", "postgres", "-c", WAIT])
        .spawn()
        .unwrap();
    wait_until("a waiter", || waiters(&sharded) == "1");
    psql.kill().unwrap();
    psql.wait().unwrap();
    wait_until("its end on the server, too", || waiters(&sharded) == "0");
    anna.ask("SELECT softlock_release('kit:1', 'anna')");
    assert_eq!(
        anna.ask("SELECT is_locked FROM softlock_status('{kit:1}')"),
        "f"
    );
}
