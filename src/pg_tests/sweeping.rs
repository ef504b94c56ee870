//! Sweeps and tokens.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::pg_tests::{ask, keys, number};

    #[pg_test]
    fn tokens_of_a_resource_only_grow_over_release_sweep_and_rollback() {
        let mut last = 0;
        let mut next = |how: &str| {
            let token = ask("softlock_acquire('k', 'anna', '1 ms')")["token"]
                .as_i64()
                .unwrap();
            assert!(token > last, "after {how}: {token} <= {last}");
            last = token;
        };
        next("nothing");
        while number("SELECT count(*) FROM softlock_active") > 0 {}
        ask("softlock_sweep()");
        next("a sweep");
        ask("softlock_release('k', 'anna')");
        while number("SELECT count(*) FROM softlock_active") > 0 {}
        next("a lapse");
        Spi::run("DO $$ BEGIN PERFORM softlock_acquire('r', 'anna'); RAISE 'back'; EXCEPTION WHEN raise_exception THEN END $$").unwrap();
        while number("SELECT count(*) FROM softlock_active") > 0 {}
        next("a rollback");
    }

    #[pg_test]
    fn a_sweep_frees_the_oldest_first_and_at_most_max_rows() {
        for name in ["c", "a", "b"] {
            ask(&format!("softlock_acquire('{name}', 'anna', '1 ms')"));
        }
        ask("softlock_acquire('live', 'anna')");
        while number("SELECT count(*) FROM softlock_active") > 1 {}
        let first = ask("softlock_sweep(2)");
        assert_eq!(first["released_count"], 2);
        assert_eq!(first["affected"], serde_json::json!(["c", "a"]));
        assert_eq!(
            keys(&first),
            [
                "adopted",
                "affected",
                "affected_truncated",
                "duration_ms",
                "released_count",
                "timestamp"
            ]
        );
        assert_eq!(
            ask("softlock_sweep()")["affected"],
            serde_json::json!(["b"])
        );
        assert_eq!(ask("softlock_sweep()")["released_count"], 0);
        assert_eq!(number("SELECT count(*) FROM softlock_active"), 1);
    }

    #[pg_test]
    fn a_sweep_names_at_most_1000_resources() {
        Spi::run(
            "SELECT softlock_acquire_many(ARRAY(SELECT 'a' || g FROM generate_series(1, 1000) AS g), 'anna', '1 ms');
             SELECT softlock_acquire('z', 'anna', '1 ms')",
        )
        .unwrap();
        while number("SELECT count(*) FROM softlock_active") > 0 {}
        let report = ask("softlock_sweep(5000)");
        assert_eq!(report["released_count"], 1001);
        assert_eq!(report["affected"].as_array().unwrap().len(), 1000);
        assert_eq!(report["affected_truncated"], true);
    }

    /// The system's clock, in microseconds since 1970, as tokens are.
    fn clock() -> i64 {
        number("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
    }

    #[pg_test]
    fn a_token_is_not_smaller_than_the_clock_and_small_enough_for_json() {
        let before = clock();
        let first = ask("softlock_acquire('k', 'anna')")["token"]
            .as_i64()
            .unwrap();
        let other = ask("softlock_acquire('l', 'anna')")["token"]
            .as_i64()
            .unwrap();
        assert!(before <= first && first < other, "{before} {first} {other}");
        assert!(other < 1 << 53, "{other}");
    }

    #[pg_test]
    fn a_renewal_keeps_the_token_and_writes_a_newer_version() {
        let version = || number("SELECT version FROM softlock.locks WHERE resource = 'k'");
        let token = ask("softlock_acquire('k', 'anna')")["token"]
            .as_i64()
            .unwrap();
        assert_eq!(version(), token);
        let mut last = token;
        for call in [
            "softlock_renew('k', 'anna')",
            "softlock_acquire('k', 'anna')",
        ] {
            assert_eq!(ask(call)["token"], token, "{call}");
            assert!(version() > last, "{call}");
            last = version();
        }
        let moved = ask("softlock_acquire('k', 'anna', session => 'tab')")["token"]
            .as_i64()
            .unwrap();
        assert_eq!(version(), moved);
        assert!(moved > last);
    }

    #[pg_test]
    fn a_floor_that_is_set_back_issues_no_token_again() {
        let token = ask("softlock_acquire('k', 'anna')")["token"]
            .as_i64()
            .unwrap();
        ask("softlock_release('k', 'anna')");
        number("SELECT setval('softlock.token', 1, false)");
        let next = ask("softlock_acquire('k', 'anna')")["token"]
            .as_i64()
            .unwrap();
        assert!(next > token, "{next} <= {token}");
    }
}
