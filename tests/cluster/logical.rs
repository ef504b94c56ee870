//! A blue/green switch: the database is replicated to another server by a publication for all tables, and
//! then the shop goes on there.

use crate::harness::{Ask, Cluster, wait_until};
use postgres::Client;

/// The old server and the new one, which subscribes to it.
fn blue_and_green() -> (Cluster, Client, Cluster, Client) {
    let blue = Cluster::start(&["wal_level = logical", "softlock.sweep_interval = 0"]);
    let green = Cluster::start(&[
        "softlock.sweep_interval = 0",
        "wal_retrieve_retry_interval = 200ms",
    ]);
    let (mut on_blue, mut on_green) = (blue.with_extension("shop"), green.with_extension("shop"));
    for client in [&mut on_blue, &mut on_green] {
        client
            .batch_execute("CREATE TABLE kit (id int PRIMARY KEY)")
            .unwrap();
    }
    on_blue
        .batch_execute("CREATE PUBLICATION p FOR ALL TABLES")
        .unwrap();
    (blue, on_blue, green, on_green)
}

fn subscribe(blue: &Cluster, on_green: &mut Client) {
    on_green
        .batch_execute(&format!(
            "CREATE SUBSCRIPTION s CONNECTION 'host={} dbname=shop user=postgres' PUBLICATION p",
            blue.dir().display()
        ))
        .unwrap();
    wait_until("the copy of all tables", || {
        on_green.ask("SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'") == "0"
    });
}

/// Ends the subscription, as at the cut-over; else its slot would keep the old server from stopping.
fn cut_over(on_green: &mut Client) {
    on_green.batch_execute("DROP SUBSCRIPTION s").unwrap();
}

/// Waits until what was written on the old server is on the new one: the shop's own tables tell.
fn wait_for_green(on_blue: &mut Client, on_green: &mut Client) {
    let id = on_blue.ask("INSERT INTO kit SELECT coalesce(max(id), 0) + 1 FROM kit RETURNING id");
    wait_until("the shop's own table on the new server", || {
        on_green.ask(&format!("SELECT count(*) FROM kit WHERE id = {id}")) == "1"
    });
}

fn holder(client: &mut Client, resource: &str) -> String {
    client.ask(&format!(
        "SELECT coalesce(owner, 'nobody') FROM softlock_status('{{{resource}}}')"
    ))
}

#[test]
fn a_switch_to_a_subscriber_keeps_live_holds_and_larger_tokens() {
    let (blue, mut on_blue, _green, mut on_green) = blue_and_green();
    on_blue.ask("SELECT softlock_acquire('copied', 'anna', '1 h', 'cart', '{\"a\": 1}')");
    subscribe(&blue, &mut on_green);
    wait_for_green(&mut on_blue, &mut on_green);
    on_blue
        .batch_execute(
            "SELECT softlock_acquire('taken', 'anna'); SELECT softlock_acquire('renewed', 'anna', '1 h');
             SELECT softlock_renew('renewed', 'anna', '2 h'); SELECT softlock_acquire('moved', 'anna');
             SELECT softlock_acquire('moved', 'anna', session => 'cart');
             SELECT softlock_acquire('sold', 'anna'); SELECT softlock_consume('{sold}', 'anna');
             SELECT softlock_acquire('handed on', 'anna'); SELECT softlock_release('handed on', 'anna');
             SELECT softlock_acquire('handed on', 'boris'); COMMIT;
             BEGIN; SELECT softlock_acquire('rolled back', 'anna'); ROLLBACK",
        )
        .unwrap();
    wait_for_green(&mut on_blue, &mut on_green);
    let all = "SELECT string_agg(l::text, E'\\n' ORDER BY resource) FROM softlock.locks AS l";
    assert_eq!(on_green.ask(all), on_blue.ask(all));
    cut_over(&mut on_green);
    let mut boris = |resource: &str| {
        on_green.ask(&format!(
            "SELECT softlock_acquire('{resource}', 'boris', '1 h')->>'outcome'"
        ))
    };
    for resource in ["copied", "taken", "renewed", "moved"] {
        assert_eq!(boris(resource), "held", "{resource}");
    }
    assert_eq!(boris("handed on"), "renewed");
    assert_eq!(boris("sold"), "granted");
    assert_eq!(boris("rolled back"), "granted");
    let token = |client: &mut Client, resource: &str| -> i64 {
        let query = format!("SELECT token FROM softlock.locks WHERE resource = '{resource}'");
        client.ask(&query).parse().unwrap()
    };
    let old = token(&mut on_blue, "taken");
    on_green.ask("SELECT softlock_release('taken', 'anna')");
    on_green.ask("SELECT softlock_acquire('taken', 'boris')");
    assert!(token(&mut on_green, "taken") > old);
    assert_eq!(
        on_green
            .ask("SELECT softlock_consume('{copied,renewed,moved}', 'anna')->>'consumed_count'"),
        "3"
    );
}

#[test]
fn a_subscription_goes_on_whatever_the_subscriber_does_to_locks() {
    let (blue, mut on_blue, green, mut on_green) = blue_and_green();
    subscribe(&blue, &mut on_green);
    // The new server's sweep deletes what has lapsed, and the old one gives it to somebody else.
    on_blue.lapse("lapses");
    wait_for_green(&mut on_blue, &mut on_green);
    assert_eq!(
        on_green.ask("SELECT softlock_sweep()->>'released_count'"),
        "1"
    );
    on_blue.ask("SELECT softlock_acquire('lapses', 'boris')");
    wait_for_green(&mut on_blue, &mut on_green);
    assert_eq!(holder(&mut on_green, "lapses"), "boris");
    // Both sweep the same.
    on_blue.lapse("swept by both");
    wait_for_green(&mut on_blue, &mut on_green);
    on_green.ask("SELECT softlock_sweep()");
    on_blue.ask("SELECT softlock_sweep()");
    wait_for_green(&mut on_blue, &mut on_green);
    // The same resource is taken on both; released, renewed and sold on the old one.
    on_green.ask("SELECT softlock_acquire('k', 'tester')");
    on_blue.ask("SELECT softlock_acquire('k', 'boris')");
    wait_for_green(&mut on_blue, &mut on_green);
    on_blue.ask("SELECT softlock_renew('k', 'boris', '2 h')");
    wait_for_green(&mut on_blue, &mut on_green);
    on_blue.ask("SELECT softlock_consume('{k}', 'boris')");
    wait_for_green(&mut on_blue, &mut on_green);
    // Whose it is on the new one is open now: two have had it at a time.
    on_green.ask("SELECT softlock_release('k', 'tester')");
    // A hold that comes over is broken on the new one, renewed and released on the old one.
    on_blue.ask("SELECT softlock_acquire('broken', 'anna')");
    wait_for_green(&mut on_blue, &mut on_green);
    on_green.ask("SELECT softlock_break('broken')");
    on_blue.ask("SELECT softlock_renew('broken', 'anna', '2 h')");
    wait_for_green(&mut on_blue, &mut on_green);
    on_blue.ask("SELECT softlock_release('broken', 'anna')");
    wait_for_green(&mut on_blue, &mut on_green);
    assert_eq!(holder(&mut on_green, "lapses"), "boris");
    for resource in ["broken", "swept by both"] {
        assert_eq!(holder(&mut on_green, resource), "nobody", "{resource}");
    }
    assert_eq!(green.log_count("ERROR"), 0, "{}", green.log());
    cut_over(&mut on_green);
}

#[test]
fn units_that_a_subscription_has_brought_count_after_the_switch() {
    let (blue, mut on_blue, _green, mut on_green) = blue_and_green();
    let take = |resource: &str, owner: &str, units: usize| {
        format!(
            "SELECT softlock_acquire('{resource}', '{owner}', '1 h', units => {units}, capacity => 5)->>'outcome'"
        )
    };
    // Whether they come with the copy of the table or later, the new server has counted both before.
    on_blue.ask(&take("copied", "anna", 4));
    for resource in ["copied", "streamed"] {
        assert_eq!(on_green.ask(&take(resource, "smoke test", 1)), "granted");
        on_green.ask(&format!(
            "SELECT softlock_release('{resource}', 'smoke test')"
        ));
    }
    subscribe(&blue, &mut on_green);
    assert_eq!(on_green.ask(&take("copied", "boris", 2)), "held");
    on_blue.ask(&take("streamed", "anna", 4));
    wait_for_green(&mut on_blue, &mut on_green);
    cut_over(&mut on_green);
    for resource in ["copied", "streamed"] {
        assert_eq!(on_green.ask(&take(resource, "boris", 2)), "held");
        assert_eq!(on_green.ask(&take(resource, "boris", 1)), "granted");
    }
}
