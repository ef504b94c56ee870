//! Tokens only grow, and committed holds stay, whatever happens to the server.

use std::fs;

use crate::harness::{Ask, Cluster, as_server, run, wait_until};
use postgres::Client;

/// Takes `k` anew and answers its token.
fn token(client: &mut Client, owner: &str) -> i64 {
    let answer = client.ask(&format!(
        "SELECT softlock_acquire('k', '{owner}', '1 h')->>'token'"
    ));
    answer.parse().expect("a token")
}

fn free(client: &mut Client) {
    client.ask("SELECT softlock_break('k')");
}

#[test]
fn tokens_grow_over_regrant_move_release_sweep_and_rollback() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.with_extension("postgres");
    let mut last = 0;
    let mut grown = |how: &str, token: i64| {
        assert!(token > last, "after {how}: {token} is not past {last}");
        last = token;
    };
    grown("the first grant", token(&mut client, "anna"));
    let moved = client.ask("SELECT softlock_acquire('k', 'anna', session => 'cart')->>'token'");
    grown("a move", moved.parse().unwrap());
    client.ask("SELECT softlock_release('k', 'anna')");
    grown("a release", token(&mut client, "boris"));
    free(&mut client);
    client.lapse("k");
    grown("a re-grant", token(&mut client, "anna"));
    free(&mut client);
    client.lapse("k");
    client.ask("SELECT softlock_sweep()");
    grown("a sweep", token(&mut client, "anna"));
    free(&mut client);
    client.batch_execute("BEGIN").unwrap();
    let undone = token(&mut client, "anna");
    client.batch_execute("ROLLBACK").unwrap();
    grown("a rollback", undone);
    grown("the rollback's token", token(&mut client, "boris"));
    client.ask("SELECT softlock_consume(ARRAY['k'], 'boris')");
    grown("a sale", token(&mut client, "anna"));
}

#[test]
fn tokens_grow_and_holds_stay_over_restart_crash_and_kill_9() {
    let cluster = Cluster::start(&["restart_after_crash = on"]);
    let mut client = cluster.with_extension("postgres");
    let mut last = 0;
    for how in ["fast", "immediate", "kill"] {
        free(&mut client);
        let held = token(&mut client, "anna");
        assert!(held > last, "before {how}: {held} is not past {last}");
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
        last = token(&mut client, "boris");
        assert!(last > held, "after {how}: {last} is not past {held}");
    }
}

#[test]
fn a_dump_carries_the_tokens_position_but_not_the_locks() {
    let cluster = Cluster::start(&[]);
    let mut client = cluster.with_extension("shop");
    for _ in 0..5 {
        token(&mut client, "anna");
        free(&mut client);
    }
    let held = token(&mut client, "anna");
    let dump = run(cluster.program("pg_dump").args(["-d", "shop"]));
    let file = cluster.dir().join("dump.sql");
    fs::write(&file, dump.stdout).unwrap();
    let other = Cluster::start(&[]);
    run(other.program("createdb").arg("copy"));
    let mut restore = other.program("psql");
    run(restore
        .args(["-X", "-v", "ON_ERROR_STOP=1", "-d", "copy", "-f"])
        .arg(&file));
    let mut copy = other.connect("copy");
    assert_eq!(copy.rows(), 0);
    let next = token(&mut copy, "boris");
    assert!(next > held, "{next} is not past {held}");
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
