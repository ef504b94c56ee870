//! However many locks a transaction takes, the server's shared lock table has no room to give for them.

use std::thread;

use crate::harness::{Ask, Cluster};
use postgres::Client;

/// As the server comes: 100 connections, 64 locks per transaction.
fn cluster() -> (Cluster, Client) {
    let cluster = Cluster::start(&["max_connections = 100", "max_wal_size = 4GB"]);
    let mut client = cluster.with_extension("postgres");
    assert_eq!(client.ask("SHOW max_locks_per_transaction"), "64");
    (cluster, client)
}

/// The locks that a session has beside those of relations and of its own transaction.
fn other_locks(client: &mut Client, pid: &str) -> usize {
    client
        .ask(&format!(
            "SELECT count(*) FROM pg_locks WHERE pid = {pid}
             AND locktype NOT IN ('relation', 'virtualxid', 'transactionid')"
        ))
        .parse()
        .expect("a count")
}

/// The relations that a session has locked, or their indexes, which are softlock's.
fn locked_relations(client: &mut Client, pid: &str) -> String {
    client.ask(&format!(
        "SELECT string_agg(DISTINCT relation::regclass::text, ' ') FROM pg_locks
         WHERE pid = {pid} AND locktype = 'relation'"
    ))
}

const RELATIONS: &str = "softlock.locks softlock.locks_expires_at_idx softlock.locks_owner_idx \
                         softlock.locks_pkey softlock.token";

#[test]
fn a_million_grants_in_one_transaction_take_no_room_in_the_lock_table() {
    let (cluster, mut client) = cluster();
    let mut other = cluster.connect("postgres");
    let pid = client.ask("SELECT pg_backend_pid()");
    let (mut looks, mut most) = (0, 0);
    client.batch_execute("BEGIN").unwrap();
    thread::scope(|scope| {
        let grants = scope.spawn(|| {
            client.ask(
                "SELECT count(*) FROM generate_series(1, 1000000) AS n
                 WHERE softlock_acquire('k' || n, 'anna')->>'outcome' = 'granted'",
            )
        });
        while !grants.is_finished() {
            most = most.max(other_locks(&mut other, &pid));
            looks += 1;
        }
        assert_eq!(grants.join().unwrap(), "1000000");
    });
    assert!(
        most <= 3,
        "{most} locks during the grants, in {looks} looks"
    );
    assert_eq!(other_locks(&mut other, &pid), 0);
    assert_eq!(locked_relations(&mut other, &pid), RELATIONS);
    assert_eq!(
        other.ask("SELECT softlock_acquire('k1', 'boris')->>'outcome'"),
        "contended"
    );
    client.batch_execute("COMMIT").unwrap();
    assert_eq!(client.rows(), 1_000_000);
}

#[test]
fn sixty_four_open_carts_of_a_thousand_take_no_room_in_the_lock_table() {
    let (cluster, mut client) = cluster();
    let mut carts: Vec<_> = (0..64)
        .map(|n| {
            let mut cart = cluster.connect("postgres");
            cart.batch_execute("BEGIN").unwrap();
            let acquired = cart.ask(&format!(
                "SELECT softlock_acquire_many(ARRAY(SELECT 'kit:{n}:' || g FROM generate_series(1, 1000) AS g),
                    'owner{n}')->>'acquired'"
            ));
            assert_eq!(acquired, "true", "{n}");
            cart
        })
        .collect();
    for cart in &mut carts {
        let pid = cart.ask("SELECT pg_backend_pid()");
        assert_eq!(other_locks(&mut client, &pid), 0);
        assert_eq!(locked_relations(&mut client, &pid), RELATIONS);
    }
    for (n, cart) in carts.iter_mut().enumerate() {
        let consumed = cart.ask(&format!(
            "SELECT softlock_consume(ARRAY(SELECT 'kit:{n}:' || g FROM generate_series(1, 1000) AS g),
                'owner{n}')->>'consumed_count'"
        ));
        assert_eq!(consumed, "1000");
        cart.batch_execute("COMMIT").unwrap();
    }
    assert_eq!(client.rows(), 0);
}
