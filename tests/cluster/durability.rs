//! Committed holds stay, whatever happens to the server.

use crate::harness::{Ask, Cluster, as_server, wait_until};
use crate::tokens::{Told, free, take};

#[test]
fn tokens_grow_and_holds_stay_over_restart_crash_and_kill_9() {
    let cluster = Cluster::start(&["restart_after_crash = on"]);
    let mut client = cluster.with_extension("postgres");
    let mut told = Told::default();
    for how in ["fast", "immediate", "kill"] {
        free(&mut client);
        let held = take(&mut client);
        told.grown("before the end", held);
        if how == "kill" {
            let children = client.ask("SELECT string_agg(pid::text, ' ') FROM pg_stat_activity");
            // One of them may have ended meanwhile, which kill complains of.
            let mut kill = as_server("kill");
            kill.arg("-KILL")
                .args(children.split(' '))
                .output()
                .unwrap();
            wait_until("the connection's end", || {
                client.simple_query("SELECT 1").is_err()
            });
        } else {
            drop(client);
            cluster.stop(how);
            cluster.up();
        }
        client = cluster.reconnect("postgres");
        assert_eq!(
            client.ask("SELECT softlock_acquire('k', 'boris')->>'outcome'"),
            "held",
            "{how}"
        );
        assert_eq!(
            client.ask("SELECT token FROM softlock.locks"),
            held.to_string(),
            "{how}"
        );
        free(&mut client);
        told.grown(how, take(&mut client));
    }
}

#[test]
fn a_prepared_grant_keeps_others_contended_until_it_is_committed() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.with_extension("postgres");
    client
        .batch_execute("BEGIN; SELECT softlock_acquire('k', 'anna'); PREPARE TRANSACTION 'sale'")
        .unwrap();
    let take = "SELECT softlock_acquire('k', 'boris')->>'outcome'";
    assert_eq!(client.ask(take), "contended");
    drop(client);
    cluster.stop("immediate");
    cluster.up();
    let mut client = cluster.connect("postgres");
    assert_eq!(client.ask(take), "contended");
    client.batch_execute("COMMIT PREPARED 'sale'").unwrap();
    assert_eq!(client.ask(take), "held");
}

#[test]
fn a_cart_of_a_thousand_works_at_default_settings() {
    let cluster = Cluster::start(&["max_connections = 100"]);
    let mut client = cluster.with_extension("postgres");
    let cart = "ARRAY(SELECT 'kit:' || g FROM generate_series(1, 1000) AS g)";
    client.batch_execute("BEGIN").unwrap();
    assert_eq!(
        client.ask(&format!(
            "SELECT softlock_acquire_many({cart}, 'anna')->'acquired'"
        )),
        "true"
    );
    assert_eq!(
        client.ask(&format!(
            "SELECT softlock_consume({cart}, 'anna')->>'consumed_count'"
        )),
        "1000"
    );
    client.batch_execute("COMMIT").unwrap();
    assert_eq!(client.rows(), 0);
}
