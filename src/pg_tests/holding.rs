//! Renewing, releasing and breaking.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::pg_tests::{ask, check, lapsed};

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
}
