//! A transaction that gives units back and takes some itself, and is rolled back: what it gave back is held
//! as before, and nobody has got it meanwhile.

use crate::harness::{Ask, Cluster};

const OFF: &str = "softlock.sweep_interval = 0";

fn take(owner: &str, units: usize) -> String {
    format!(
        "SELECT softlock_acquire('k', '{owner}', '1 h', units => {units}, capacity => 5)->>'outcome'"
    )
}

const HELD: &str = "SELECT units FROM softlock_status('{k}')";

/// The ways in which Boris's two of five units can be given up.
const GIVEN_UP: [&str; 5] = [
    "SELECT softlock_release('k', 'boris')",
    "SELECT softlock_release_all('boris')",
    "SELECT softlock_consume('{k}', 'boris')",
    "SELECT softlock_break_all(owner => 'boris')",
    "SELECT softlock_transfer('{k}', 'boris', 'berta'); SELECT softlock_release('k', 'berta')",
];

/// Anna has three of five units, Boris two.
fn all_are_held(cluster: &Cluster) -> postgres::Client {
    let mut client = cluster.connect("postgres");
    client.batch_execute("TRUNCATE softlock.locks").unwrap();
    assert_eq!(client.ask(&take("anna", 3)), "granted");
    assert_eq!(client.ask(&take("boris", 2)), "granted");
    client
}

/// Nobody gets one more.
fn are_all_held(cluster: &Cluster, why: &str) {
    let mut other = cluster.connect("postgres");
    assert_eq!(other.ask(&take("dora", 1)), "held", "{why}");
    assert_eq!(other.ask(HELD), "5", "{why}");
}

#[test]
fn what_a_rolled_back_transaction_gave_back_and_took_itself_is_still_held() {
    let cluster = Cluster::start(&[OFF]);
    cluster.with_extension("postgres");
    for given_up in GIVEN_UP {
        // A server that has just been started has counted nothing.
        for is_counted in [true, false] {
            drop(all_are_held(&cluster));
            if !is_counted {
                cluster.stop("fast");
                cluster.up();
            }
            let mut client = cluster.connect("postgres");
            client
                .batch_execute(&format!("BEGIN; {given_up}; {}", take("clara", 1)))
                .unwrap();
            let mut other = cluster.connect("postgres");
            assert_ne!(other.ask(&take("dora", 1)), "granted", "{given_up}");
            client.batch_execute("ROLLBACK").unwrap();
            are_all_held(&cluster, given_up);
        }
    }
}

#[test]
fn what_was_given_back_and_taken_since_a_savepoint_is_still_held_after_a_rollback_to_it() {
    let cluster = Cluster::start(&[OFF]);
    cluster.with_extension("postgres");
    let fewer = take("boris", 1);
    for (since, end) in [
        ("SAVEPOINT s", "ROLLBACK TO s"),
        ("SAVEPOINT s; SAVEPOINT t", "RELEASE t; ROLLBACK TO s"),
    ] {
        for given_up in GIVEN_UP.into_iter().chain([&*fewer]) {
            let mut client = all_are_held(&cluster);
            client
                .batch_execute(&format!(
                    "BEGIN; {since}; {given_up}; {}; {end}; COMMIT",
                    take("clara", 1)
                ))
                .unwrap();
            are_all_held(&cluster, given_up);
        }
    }
}

#[test]
fn what_a_transaction_gave_back_it_can_take_itself_and_others_when_it_has_committed() {
    let cluster = Cluster::start(&[OFF]);
    cluster.with_extension("postgres");
    for given_up in &GIVEN_UP[..3] {
        let mut client = all_are_held(&cluster);
        client.batch_execute(&format!("BEGIN; {given_up}")).unwrap();
        assert_eq!(client.ask(&take("clara", 3)), "held");
        assert_eq!(client.ask(&take("clara", 2)), "granted");
        assert_eq!(client.ask(&take("emil", 1)), "held");
        client.batch_execute("SAVEPOINT s").unwrap();
        client.ask("SELECT softlock_release('k', 'clara')");
        assert_eq!(client.ask(&take("emil", 2)), "granted");
        client.batch_execute("ROLLBACK TO s").unwrap();
        assert_eq!(client.ask(&take("emil", 1)), "held");
        client.ask(&take("clara", 1));
        client.batch_execute("COMMIT").unwrap();
        assert_eq!(client.ask(HELD), "4");
        let mut other = cluster.connect("postgres");
        assert_eq!(other.ask(&take("dora", 2)), "held");
        assert_eq!(other.ask(&take("boris", 1)), "granted");
        are_all_held(&cluster, given_up);
    }
}
