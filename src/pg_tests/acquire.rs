//! The decision table of an acquire, cell by cell.

#[pgrx::pg_schema]
mod tests {
    use pgrx::JsonB;
    use pgrx::prelude::*;

    use crate::pg_tests::{ask, check, keys, lapsed, number};

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
                "retry_after_ms",
                "role"
            ]
        );
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
}
