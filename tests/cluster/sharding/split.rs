//! Two servers become four, by `docs/scaling/split`.

use std::collections::BTreeMap;

use postgres::Client;

use super::servers::Sharded;
use crate::harness::Ask;
use crate::worker_watch::OFF;

const HOUR_US: i64 = 3_600_000_000;

/// Everything that is to be seen of the holds but the time that is left.
fn holds(client: &mut Client) -> String {
    client.ask(
        "SELECT string_agg(format('%s', a), E'\\n' ORDER BY resource COLLATE \"C\", owner)
         FROM (SELECT resource, owner, session, role, metadata, acquired_at, expires_at, units FROM softlock_active) AS a",
    )
}

/// The tokens of all rows of all servers.
fn tokens(sharded: &Sharded) -> BTreeMap<(String, String), i64> {
    let mut tokens = BTreeMap::new();
    for server in &sharded.servers {
        let mut client = server.connect("postgres");
        let rows = client.query("SELECT resource, owner, token FROM softlock.locks", &[]);
        for row in rows.unwrap() {
            let twice = tokens.insert((row.get(0), row.get(1)), row.get(2));
            assert!(twice.is_none(), "{row:?} is there twice");
        }
    }
    tokens
}

/// Holds of several kinds, roles and owners.
fn take_some(sharded: &Sharded) -> Client {
    sharded.on_every_server("CREATE ROLE till LOGIN");
    let mut client = sharded.connect();
    client
        .batch_execute(
            "CREATE ROLE till LOGIN;
             SELECT softlock_acquire('kit:' || n, 'anna', '2 hours', 'cart', '{\"till\": \"№ 1\"}') FROM generate_series(1, 100) AS n;
             SET ROLE till;
             SELECT softlock_acquire('seat:{c' || n || '}:\\tab', 'boris') FROM generate_series(1, 100) AS n;
             SELECT softlock_acquire('rose:' || n, 'owner' || o, units => o, capacity => 10)
                 FROM generate_series(1, 20) AS n, generate_series(1, 3) AS o;
             RESET ROLE",
        )
        .unwrap();
    client
}

#[test]
fn two_servers_become_four_with_every_hold_in_its_place_and_larger_tokens() {
    let sharded = Sharded::start(2, 4, &[OFF]);
    // As if the clock of one server had been an hour ahead.
    let ahead = format!(
        "SELECT setval('softlock.token', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + {HOUR_US})"
    );
    sharded.servers[1].connect("postgres").ask(&ahead);
    let mut client = take_some(&sharded);
    let mut freed = BTreeMap::new();
    for n in 0..40 {
        let key = format!("freed:{n}");
        let token = client.ask(&format!(
            "SELECT softlock_acquire('{key}', 'anna')->>'token'"
        ));
        client.ask(&format!("SELECT softlock_release('{key}', 'anna')"));
        freed.insert(key, token.parse::<i64>().unwrap());
    }
    let (before, tokens_before) = (holds(&mut client), tokens(&sharded));
    assert_eq!(tokens_before.len(), 260);

    let done = sharded.split("");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );

    // Also for a session that knew the old ones.
    assert_eq!(holds(&mut client), before);
    assert_eq!(tokens(&sharded), tokens_before);
    for (at, server) in sharded.servers.iter().enumerate() {
        let mut server = server.connect("postgres");
        let count = "SELECT count(*) FROM softlock.locks";
        assert_ne!(server.ask(count), "0", "server {at}");
        let astray = format!("{count} WHERE softlock_router.hash(resource) & 3 <> {at}");
        assert_eq!(server.ask(&astray), "0", "server {at}");
        assert_eq!(server.ask("SHOW softlock.serve"), "on");
    }
    for (key, before) in freed {
        let token = client.ask(&format!(
            "SELECT softlock_acquire('{key}', 'anna')->>'token'"
        ));
        assert!(
            token.parse::<i64>().unwrap() > before,
            "{key}: {token} after {before}"
        );
    }
    for ((key, owner), before) in tokens_before
        .iter()
        .filter(|((key, _), _)| key.starts_with("kit"))
    {
        let answer = client.ask(&format!(
            "SELECT softlock_acquire('{key}', 'carla')->>'owner'"
        ));
        assert_eq!(answer, *owner, "{key}");
        let released = client.ask(&format!(
            "SELECT softlock_release('{key}', '{owner}', {before})->>'released'"
        ));
        assert_eq!(released, "true", "{key}");
        let token = client.ask(&format!(
            "SELECT softlock_acquire('{key}', 'carla')->>'token'"
        ));
        assert!(
            token.parse::<i64>().unwrap() > *before,
            "{key}: {token} after {before}"
        );
    }
}

#[test]
fn a_split_that_fails_leaves_everything_as_it_was() {
    let sharded = Sharded::start(2, 4, &[OFF, "max_prepared_transactions = 2"]);
    let mut client = take_some(&sharded);
    let before = holds(&mut client);
    let mut fails = |because: &str| {
        let done = sharded.split("");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && said.contains(because), "{said}");
        // The servers that were stopped are found again by the second call, if not by the first.
        crate::harness::wait_until("the servers' going on", || {
            client
                .simple_query("SELECT count(*) FROM softlock_active")
                .is_ok()
        });
        assert_eq!(holds(&mut client), before);
        for at in 2..4 {
            assert_eq!(sharded.servers[at].connect("postgres").rows(), 0);
        }
        for n in 1..20 {
            let sql = format!("SELECT softlock_renew('kit:{n}', 'anna', '1 s')->>'renewed'");
            crate::harness::wait_until("the servers' going on", || {
                client.simple_query(&sql).is_ok()
            });
        }
    };
    let mut at_it = sharded.servers[1].connect("postgres");
    at_it
        .batch_execute(
            "BEGIN; SELECT softlock_acquire('by hand', 'carla'); PREPARE TRANSACTION 'sale'",
        )
        .unwrap();
    fails("there are prepared transactions");
    let mut at_it = sharded.servers[1].reconnect("postgres");
    at_it.batch_execute("ROLLBACK PREPARED 'sale'").unwrap();
    // Half of it has been copied then.
    let mut last = sharded.servers[3].connect("postgres");
    last.batch_execute("ALTER ROLE till RENAME TO other")
        .unwrap();
    fails("role \"till\" does not exist");
    last.batch_execute("INSERT INTO softlock.locks SELECT 'k', 'o', NULL, 1, 'postgres', NULL, now(), now(), 0, 1, 1")
        .unwrap();
    let done = sharded.split("");
    assert!(String::from_utf8_lossy(&done.stderr).contains("is not empty"));
}
