//! Tests inside a server: the decision table, cell by cell. What needs two transactions is in
//! `tests/isolation`, bad input and privileges in `tests/pg_regress`.

#[pgrx::pg_schema]
mod tests {
    use pgrx::JsonB;
    use pgrx::prelude::*;
    use serde_json::Value;

    /// Asks one of the functions. The tests run at the same time, each in a transaction, and would
    /// find each other's keys contended: they take turns.
    fn ask(call: &str) -> Value {
        take_turn();
        let answer = Spi::get_one::<JsonB>(&format!("SELECT {call}"));
        answer.expect("the call works").expect("an answer").0
    }

    fn take_turn() {
        Spi::run("SELECT pg_advisory_xact_lock(1)").expect("a turn");
    }

    fn number(query: &str) -> i64 {
        Spi::get_one(query)
            .expect("the query works")
            .expect("a number")
    }

    /// Takes `k` for `owner` and waits until it has lapsed.
    fn lapsed(owner: &str) -> Value {
        let answer = ask(&format!("softlock_acquire('k', '{owner}', '1 ms')"));
        while number("SELECT count(*) FROM softlock_active WHERE resource = 'k'") > 0 {}
        answer
    }

    #[track_caller]
    fn check(answer: &Value, verdict: &str, said: bool, outcome: &str) {
        assert_eq!(answer[verdict], said, "{answer}");
        assert_eq!(answer["outcome"], outcome, "{answer}");
    }

    fn keys(answer: &Value) -> Vec<&str> {
        let mut keys: Vec<_> = answer
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        keys.sort_unstable();
        keys
    }

    #[pg_test]
    fn a_free_resource_is_granted() {
        let answer = ask("softlock_acquire('k', 'anna', '60 s', 'cart', '{\"till\": 1}')");
        check(&answer, "acquired", true, "granted");
        assert_eq!(
            (&answer["resource"], &answer["owner"]),
            (&"k".into(), &"anna".into())
        );
        assert_eq!(answer["session"], "cart");
        assert_eq!(
            keys(&answer),
            [
                "acquired",
                "acquired_at",
                "expires_at",
                "outcome",
                "owner",
                "resource",
                "session",
                "token"
            ]
        );
    }

    #[pg_test]
    fn a_lapsed_lock_of_somebody_else_is_granted_anew() {
        let old = lapsed("anna");
        let new = ask("softlock_acquire('k', 'boris')");
        check(&new, "acquired", true, "granted");
        assert!(new["token"].as_i64() > old["token"].as_i64());
        assert!(new["acquired_at"].as_str() > old["expires_at"].as_str());
    }

    #[pg_test]
    fn a_lapsed_lock_of_ones_own_is_granted_anew_with_a_new_token() {
        let old = lapsed("anna");
        let new = ask("softlock_acquire('k', 'anna')");
        check(&new, "acquired", true, "granted");
        assert!(new["token"].as_i64() > old["token"].as_i64());
    }

    #[pg_test]
    fn a_grant_over_a_lapsed_lock_keeps_nothing_of_it() {
        ask("softlock_acquire('k', 'anna', '1 ms', 'cart', '{\"till\": 1}')");
        while number("SELECT count(*) FROM softlock_active") > 0 {}
        check(
            &ask("softlock_acquire('k', 'boris')"),
            "acquired",
            true,
            "granted",
        );
        assert_eq!(
            number(
                "SELECT count(*) FROM softlock_active WHERE session IS NULL AND metadata IS NULL"
            ),
            1
        );
    }

    #[pg_test]
    fn the_holder_renews_and_keeps_token_and_time_of_the_grant() {
        let first = ask("softlock_acquire('k', 'anna', '60 s', 'cart')");
        for call in [
            "softlock_acquire('k', 'anna', '90 s', 'cart')",
            "softlock_acquire('k', 'anna', '120 s')",
        ] {
            let again = ask(call);
            check(&again, "acquired", true, "renewed");
            assert_eq!(again["token"], first["token"]);
            assert_eq!(again["acquired_at"], first["acquired_at"]);
            assert_eq!(again["session"], "cart");
            assert!(again["expires_at"].as_str() > first["expires_at"].as_str());
        }
    }

    #[pg_test]
    fn a_renewal_never_shortens() {
        let first = ask("softlock_acquire('k', 'anna', '1 h')");
        for call in [
            "softlock_acquire('k', 'anna', '1 s')",
            "softlock_renew('k', 'anna', '1 s')",
        ] {
            assert_eq!(ask(call)["expires_at"], first["expires_at"]);
        }
    }

    #[pg_test]
    fn a_renewal_replaces_metadata_only_if_given() {
        let metadata = || {
            Spi::get_one::<JsonB>("SELECT metadata FROM softlock_active")
                .unwrap()
                .map(|json| json.0)
        };
        ask("softlock_acquire('k', 'anna', metadata => '{\"till\": 1}')");
        ask("softlock_acquire('k', 'anna')");
        assert_eq!(metadata().unwrap()["till"], 1);
        ask("softlock_acquire('k', 'anna', metadata => '{\"till\": 2}')");
        assert_eq!(metadata().unwrap()["till"], 2);
    }

    #[pg_test]
    fn another_session_of_the_holder_takes_the_lock_over_with_a_new_token() {
        let old = ask("softlock_acquire('k', 'anna', '1 h', 'cart-1')");
        let new = ask("softlock_acquire('k', 'anna', '1 s', 'cart-2')");
        check(&new, "acquired", true, "moved");
        assert_eq!(new["session"], "cart-2");
        assert_eq!(new["acquired_at"], old["acquired_at"]);
        assert_eq!(new["expires_at"], old["expires_at"]);
        assert!(new["token"].as_i64() > old["token"].as_i64());
        let stale = ask(&format!(
            "softlock_renew('k', 'anna', token => {})",
            old["token"]
        ));
        check(&stale, "renewed", false, "stale_token");
    }

    #[pg_test]
    fn somebody_elses_live_lock_is_held_and_its_holder_is_told_without_session_and_token() {
        ask("softlock_acquire('k', 'boris', '60 s', 'secret', '{\"till\": 2}')");
        let answer = ask("softlock_acquire('k', 'anna')");
        check(&answer, "acquired", false, "held");
        assert_eq!(answer["owner"], "boris");
        assert_eq!(answer["metadata"]["till"], 2);
        let retry = answer["retry_after_ms"].as_i64().unwrap();
        assert!((1..=60_000).contains(&retry), "{retry}");
        assert_eq!(
            keys(&answer),
            [
                "acquired",
                "expires_at",
                "metadata",
                "outcome",
                "owner",
                "resource",
                "retry_after_ms"
            ]
        );
    }

    #[pg_test]
    fn the_holder_prolongs_a_live_lock() {
        let first = ask("softlock_acquire('k', 'anna', '60 s')");
        let renewed = ask(&format!(
            "softlock_renew('k', 'anna', '90 s', {})",
            first["token"]
        ));
        check(&renewed, "renewed", true, "renewed");
        assert_eq!(renewed["token"], first["token"]);
        assert!(renewed["expires_at"].as_str() > first["expires_at"].as_str());
    }

    #[pg_test]
    fn a_lapsed_lock_can_not_be_renewed_nor_released() {
        lapsed("anna");
        check(
            &ask("softlock_renew('k', 'anna')"),
            "renewed",
            false,
            "expired",
        );
        check(
            &ask("softlock_release('k', 'anna')"),
            "released",
            false,
            "expired",
        );
        check(
            &ask("softlock_renew('k', 'boris')"),
            "renewed",
            false,
            "not_held",
        );
        check(
            &ask("softlock_release('k', 'boris')"),
            "released",
            false,
            "not_held",
        );
    }

    #[pg_test]
    fn somebody_elses_lock_can_not_be_renewed_nor_released_and_its_holder_is_told() {
        ask("softlock_acquire('k', 'boris')");
        for (call, verdict) in [
            ("softlock_renew('k', 'anna')", "renewed"),
            ("softlock_release('k', 'anna')", "released"),
        ] {
            let answer = ask(call);
            check(&answer, verdict, false, "held");
            assert_eq!(answer["owner"], "boris");
        }
    }

    #[pg_test]
    fn another_token_neither_renews_nor_releases() {
        let token = ask("softlock_acquire('k', 'anna')")["token"]
            .as_i64()
            .unwrap();
        let wrong = token - 1;
        check(
            &ask(&format!("softlock_renew('k', 'anna', token => {wrong})")),
            "renewed",
            false,
            "stale_token",
        );
        check(
            &ask(&format!("softlock_release('k', 'anna', {wrong})")),
            "released",
            false,
            "stale_token",
        );
        check(
            &ask(&format!("softlock_release('k', 'anna', {token})")),
            "released",
            true,
            "released",
        );
    }

    #[pg_test]
    fn releasing_again_is_harmless() {
        ask("softlock_acquire('k', 'anna')");
        check(
            &ask("softlock_release('k', 'anna')"),
            "released",
            true,
            "released",
        );
        check(
            &ask("softlock_release('k', 'anna')"),
            "released",
            false,
            "not_held",
        );
    }

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
                "retry_after_ms"
            ]
        );
        assert_eq!(
            number("SELECT count(*) FROM softlock.locks WHERE owner = 'anna'"),
            0
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

    #[pg_test]
    fn breaking_frees_anybodys_lock_and_kills_its_token() {
        let token = ask(
            "softlock_acquire('k', 'anna', session => 'cart', metadata => '{\"till\": 1}')",
        )["token"]
            .clone();
        let broken = ask("softlock_break('k', 'inventory')");
        check(&broken, "broken", true, "broken");
        assert_eq!(
            (&broken["owner"], &broken["session"]),
            (&"anna".into(), &"cart".into())
        );
        check(
            &ask(&format!("softlock_renew('k', 'anna', token => {token})")),
            "renewed",
            false,
            "not_held",
        );
        check(&ask("softlock_break('k')"), "broken", false, "not_held");
    }

    #[pg_test]
    fn waiting_takes_a_lock_as_soon_as_it_lapses_and_gives_up_when_it_does_not() {
        ask("softlock_acquire('k', 'anna', '50 ms')");
        check(
            &ask("softlock_acquire('k', 'boris', wait => '60 s')"),
            "acquired",
            true,
            "granted",
        );
        check(
            &ask("softlock_acquire('k', 'anna', wait => '10 ms')"),
            "acquired",
            false,
            "held",
        );
    }

    #[pg_test]
    fn an_answer_is_the_very_jsonb_that_its_text_stands_for() {
        take_turn();
        let same = "SELECT a = a::text::jsonb FROM ";
        let metadata =
            r#"'{"b": {"deep": [1, {"x": null}, "é", []]}, "a": 1.50, "ab": true, "": ""}'"#;
        for call in [
            &format!("softlock_acquire('k', 'anna', session => 's', metadata => {metadata})"),
            "softlock_acquire('k', 'boris')",
            "softlock_acquire_many(ARRAY['k', 'l'], 'boris')",
            "softlock_acquire_many(ARRAY['l', 'm'], 'anna')",
            "softlock_release_all('anna', 'none')",
            "softlock_break('k')",
        ] {
            let is_same = Spi::get_one::<bool>(&format!("{same}{call} AS a"));
            assert_eq!(is_same, Ok(Some(true)), "{call}");
        }
    }

    #[pg_test]
    fn numbers_in_metadata_keep_every_digit() {
        ask("softlock_acquire('k', 'anna', metadata => '{\"ean\": 12345678901234567890123.50}')");
        let text =
            Spi::get_one::<String>("SELECT softlock_acquire('k', 'boris')->'metadata'->>'ean'");
        assert_eq!(text, Ok(Some("12345678901234567890123.50".into())));
    }
}
