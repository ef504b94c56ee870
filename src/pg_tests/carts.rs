//! Many keys in one call.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::pg_tests::{ask, keys, number};

    #[pg_test]
    fn a_cart_is_taken_in_the_asked_order_and_duplicates_count_once() {
        let answer = ask("softlock_acquire_many(ARRAY['b', 'a', 'b'], 'anna')");
        assert_eq!(answer["acquired"], true);
        let locks = answer["locks"].as_array().unwrap();
        let names: Vec<_> = locks
            .iter()
            .map(|lock| lock["resource"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["b", "a"]);
        assert_eq!(
            keys(&locks[0]),
            ["expires_at", "outcome", "resource", "token"]
        );
    }

    #[pg_test]
    fn a_cart_is_refused_whole_with_every_conflict() {
        ask("softlock_acquire_many(ARRAY['a', 'c'], 'boris')");
        let answer = ask("softlock_acquire_many(ARRAY['d', 'c', 'b', 'a'], 'anna')");
        assert_eq!(answer["acquired"], false);
        let conflicts = answer["conflicts"].as_array().unwrap();
        let names: Vec<_> = conflicts
            .iter()
            .map(|c| c["resource"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["c", "a"]);
        assert_eq!(
            keys(&conflicts[0]),
            [
                "expires_at",
                "outcome",
                "owner",
                "resource",
                "retry_after_ms",
                "role"
            ]
        );
        assert_eq!(
            number("SELECT count(*) FROM softlock.locks WHERE owner = 'anna'"),
            0
        );
    }

    #[pg_test]
    fn a_cart_is_refused_also_beside_a_name_so_long_that_the_index_has_it_compressed() {
        ask("softlock_acquire_many(ARRAY['a', 'b'], 'boris')");
        ask("softlock_acquire(repeat('m', 1024), 'boris')");
        ask("softlock_acquire('m' || repeat('n', 1000), 'boris')");
        let cart = "ARRAY['a', 'b', 'c', 'd', repeat('m', 1023), repeat('m', 1024), 'y', 'z']";
        let answer = ask(&format!("softlock_acquire_many({cart}, 'anna')"));
        let conflicts = answer["conflicts"].as_array().unwrap().iter();
        let names = conflicts.map(|c| c["resource"].as_str().unwrap());
        let long = "m".repeat(1024);
        assert_eq!(names.collect::<Vec<_>>(), ["a", "b", &long]);
        assert_eq!(
            number(&format!(
                "SELECT count(*) FROM softlock_status({cart}) WHERE is_locked"
            )),
            3
        );
    }

    #[pg_test]
    fn a_cart_mixes_grants_renewals_moves_and_lapsed_locks() {
        ask("softlock_acquire('lapsed', 'boris', '1 ms')");
        ask("softlock_acquire('mine', 'anna', '1 h', 'cart')");
        ask("softlock_acquire('moved', 'anna', '1 h', 'other')");
        while number("SELECT count(*) FROM softlock_active") > 2 {}
        let answer = ask(
            "softlock_acquire_many(ARRAY['mine', 'new', 'moved', 'lapsed'], 'anna', '10 s', 'cart')",
        );
        let outcomes: Vec<_> = answer["locks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|lock| lock["outcome"].as_str().unwrap())
            .collect();
        assert_eq!(outcomes, ["renewed", "granted", "moved", "granted"]);
        assert_eq!(
            number(
                "SELECT count(*) FROM softlock_active WHERE owner = 'anna' AND session = 'cart'"
            ),
            4
        );
        assert_eq!(
            number("SELECT count(*) FROM softlock_active WHERE remaining > '1 min'"),
            2
        );
    }

    #[pg_test]
    fn a_thousand_keys_work_in_one_call_and_one_more_does_not() {
        let cart = |n| {
            format!(
                "softlock_acquire_many(ARRAY(SELECT 'k' || g FROM generate_series(1, {n}) AS g), 'anna')"
            )
        };
        assert_eq!(ask(&cart(1000))["acquired"], true);
        assert_eq!(ask(&cart(1000))["locks"][999]["outcome"], "renewed");
        let error = std::panic::catch_unwind(|| ask(&cart(1001)));
        assert!(error.is_err());
    }

    #[pg_test]
    fn consuming_ends_the_holds_and_a_rollback_brings_them_back_untouched() {
        ask("softlock_acquire_many(ARRAY['a', 'b'], 'anna', session => 'cart')");
        let rows = || {
            Spi::get_one::<String>(
                "SELECT string_agg(l::text, ' ' ORDER BY resource) FROM softlock.locks AS l",
            )
            .unwrap()
        };
        let before = rows();
        Spi::run(
            "DO $$ BEGIN
                 IF softlock_consume(ARRAY['b', 'a', 'b'], 'anna')->>'consumed_count' <> '2' THEN RAISE 'count'; END IF;
                 IF (SELECT count(*) FROM softlock.locks) <> 0 THEN RAISE 'rows'; END IF;
                 RAISE division_by_zero;
             EXCEPTION WHEN division_by_zero THEN END $$",
        )
        .unwrap();
        assert_eq!(rows(), before);
        assert_eq!(
            ask("softlock_consume(ARRAY['a', 'b'], 'anna')")["consumed_count"],
            2
        );
        assert_eq!(rows(), None);
    }

    #[pg_test]
    fn releasing_all_frees_a_session_or_everything_of_the_owner() {
        ask("softlock_acquire_many(ARRAY['b', 'a'], 'anna', session => 'one')");
        ask("softlock_acquire('c', 'anna', session => 'two')");
        ask("softlock_acquire('d', 'boris')");
        let one = ask("softlock_release_all('anna', 'one')");
        assert_eq!(
            one,
            serde_json::json!({"released_count": 2, "resources": ["a", "b"]})
        );
        assert_eq!(
            ask("softlock_release_all('anna')")["resources"],
            serde_json::json!(["c"])
        );
        assert_eq!(ask("softlock_release_all('anna')")["released_count"], 0);
        assert_eq!(number("SELECT count(*) FROM softlock_active"), 1);
    }
}
