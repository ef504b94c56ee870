//! Answers as the JSON that they are.

#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;

    use crate::pg_tests::{ask, take_turn};

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
