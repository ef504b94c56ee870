//! The log says what has happened, when it has: not what was rolled back.

use crate::harness::{Ask, Cluster};

#[test]
fn break_and_sweep_are_logged_when_they_are_committed_and_only_then() {
    let cluster = Cluster::start(&["softlock.sweep_interval = 0", "log_min_messages = debug1"]);
    let mut client = cluster.with_extension("postgres");
    let logged = |name: &str| {
        let broken = cluster.log_count(&format!("softlock broke the lock on \"{name} held\""));
        let swept = cluster.log_count(&format!("softlock released \"{name} lapsed\""));
        let sweeps = cluster
            .log()
            .lines()
            .filter(|line| line.contains("softlock sweep released"))
            .filter(|line| line.contains(&format!("\"{name} lapsed\"")))
            .count();
        (broken, swept, sweeps)
    };
    let (nothing, once) = ((0, 0, 0), (1, 1, 1));
    for (name, before, after, is_logged) in [
        ("alone", "", "", true),
        ("committed", "BEGIN", "COMMIT", true),
        ("rolled back", "BEGIN", "ROLLBACK", false),
        (
            "of a failed transaction",
            "BEGIN",
            "SAVEPOINT s; SELECT 1/0",
            false,
        ),
        (
            "released",
            "BEGIN; SAVEPOINT a; SAVEPOINT b",
            "RELEASE a; COMMIT",
            true,
        ),
        (
            "undone",
            "BEGIN; SAVEPOINT a",
            "ROLLBACK TO a; COMMIT",
            false,
        ),
        (
            "undone with what it was released to",
            "BEGIN; SAVEPOINT a; SAVEPOINT b",
            "RELEASE b; ROLLBACK TO a; COMMIT",
            false,
        ),
        (
            "prepared",
            "BEGIN",
            "PREPARE TRANSACTION 'p'; COMMIT PREPARED 'p'",
            true,
        ),
    ] {
        client.ask(&format!("SELECT softlock_acquire('{name} held', 'anna')"));
        client.lapse(&format!("{name} lapsed"));
        client.batch_execute(before).unwrap();
        client.ask(&format!("SELECT softlock_break('{name} held')"));
        client.ask("SELECT softlock_sweep()");
        if !before.is_empty() {
            assert_eq!(logged(name), nothing, "before the end: {name}");
        }
        for statement in after.split("; ").filter(|statement| !statement.is_empty()) {
            let _ = client.batch_execute(statement);
        }
        let _ = client.batch_execute("ROLLBACK");
        let expected = if is_logged { once } else { nothing };
        assert_eq!(logged(name), expected, "{name}");
        client.ask("SELECT softlock_sweep()");
    }
}
