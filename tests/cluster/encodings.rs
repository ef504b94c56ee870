//! Databases in other encodings than UTF-8: names, metadata, the guard and the log are right in each.

use crate::harness::{Ask, Cluster};
use postgres::Client;

/// An encoding, a word that it has, and the word's bytes in it.
const ENCODINGS: &[(&str, &str, &[u8])] = &[
    ("UTF8", "букет", "букет".as_bytes()),
    ("LATIN1", "café", b"caf\xe9"),
    ("WIN1251", "букет", b"\xe1\xf3\xea\xe5\xf2"),
    ("EUC_JP", "花束", b"\xb2\xd6\xc2\xab"),
    ("SQL_ASCII", "букет", "букет".as_bytes()),
];

/// A database of this encoding with the extension.
pub fn database(cluster: &Cluster, encoding: &str) -> Client {
    let name = format!("in_{}", encoding.to_lowercase());
    cluster
        .connect("postgres")
        .batch_execute(&format!(
            "CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
        ))
        .unwrap();
    let mut client = cluster.connect(&name);
    client.batch_execute("CREATE EXTENSION softlock").unwrap();
    client
}

/// The SQLSTATE, message and DETAIL of the error that a statement raises.
#[track_caller]
fn error(client: &mut Client, statement: &str) -> String {
    let error = client.batch_execute(statement).expect_err(statement);
    let error = error.as_db_error().expect("an error of the server's");
    let detail = error.detail().unwrap_or_default();
    format!("{} {} {detail}", error.code().code(), error.message())
}

#[test]
fn every_verb_works_in_every_encoding() {
    let cluster = Cluster::start(&["log_min_messages = debug1"]);
    for (encoding, word, bytes) in ENCODINGS {
        let mut client = database(&cluster, encoding);
        let key = format!("{encoding}:{word}");
        let mut answers = |what: &str, query: &str, answer: &str| {
            let query = query.replace('$', &key).replace('#', word);
            assert_eq!(client.ask(&query), answer, "{encoding}: {what}");
        };
        answers(
            "acquire",
            "SELECT softlock_acquire('$', '#', session => '#', metadata => jsonb_build_object('l', '#'))
                @> jsonb_build_object('outcome', 'granted', 'resource', '$', 'owner', '#', 'session', '#')",
            "t",
        );
        answers(
            "a refusal",
            "SELECT softlock_acquire('$', 'boris') @> jsonb_build_object('outcome', 'held', 'owner', '#',
                'metadata', jsonb_build_object('l', '#'))",
            "t",
        );
        answers(
            "renew",
            "SELECT softlock_renew('$', '#')->>'outcome'",
            "renewed",
        );
        answers(
            "acquire_many",
            "SELECT softlock_acquire_many(ARRAY['$', '$2', '$3'], '#')->'locks'->1->>'resource' = '$2'",
            "t",
        );
        answers(
            "a refusal of many",
            "SELECT softlock_acquire_many(ARRAY['$'], 'boris')->'conflicts'->0->>'owner' = '#'",
            "t",
        );
        answers(
            "status",
            "SELECT resource = '$' AND owner = '#' AND session = '#' AND locked_by_me AND metadata->>'l' = '#'
             FROM softlock_status(ARRAY['$'], '#')",
            "t",
        );
        answers(
            "active",
            "SELECT count(*) FROM softlock_active WHERE owner = '#' AND resource LIKE '$%'",
            "3",
        );
        answers(
            "consume",
            "SELECT softlock_consume(ARRAY['$2'], '#')->>'consumed_count'",
            "1",
        );
        answers(
            "release_all",
            "SELECT softlock_release_all('#', '#')->'resources'->>0 = '$'",
            "t",
        );
        answers(
            "release",
            "SELECT softlock_release('$3', '#')->>'outcome'",
            "released",
        );
        answers(
            "break",
            "SELECT softlock_break('$', '#') @> jsonb_build_object('broken', true, 'owner', '#')
             FROM softlock_acquire('$', '#') AS a OFFSET 0",
            "t",
        );
        let mut taker = cluster.connect(&client.ask("SELECT current_database()"));
        taker
            .batch_execute(&format!(
                "BEGIN; SELECT softlock_acquire('{key}', '{word}')"
            ))
            .unwrap();
        let contended = client.ask(&format!(
            "SELECT softlock_acquire('{key}', 'boris')->>'owner'"
        ));
        assert_eq!(&contended, word, "{encoding}");
        let pending = client.ask("SELECT resource || owner FROM softlock_pending()");
        assert_eq!(pending, format!("{key}{word}"), "{encoding}");
        taker.batch_execute("COMMIT").unwrap();

        let refused = error(
            &mut client,
            &format!("SELECT softlock_consume(ARRAY['{key}'], 'boris')"),
        );
        assert!(
            refused.starts_with("SL001") && refused.contains(&key) && refused.contains(word),
            "{encoding}: {refused}"
        );
        client
            .batch_execute(&format!(
                "CREATE TABLE kit (name text, sold bool); INSERT INTO kit VALUES ('{word}');
                 CREATE TRIGGER held BEFORE UPDATE ON kit
                    FOR EACH ROW EXECUTE FUNCTION softlock_guard('{encoding}:', 'name')"
            ))
            .unwrap();
        let refused = error(&mut client, "UPDATE kit SET sold = true");
        assert!(
            refused.starts_with("SL002") && refused.contains(&key) && refused.contains(word),
            "{encoding}: {refused}"
        );
        client
            .batch_execute(&format!(
                "BEGIN; SET LOCAL softlock.owner = '{word}'; UPDATE kit SET sold = true; COMMIT;
                 SELECT softlock_release('{key}', '{word}')"
            ))
            .unwrap();

        // In the log the texts are as they are in the database.
        client.lapse(&format!("{key} lapses"));
        client.ask("SELECT softlock_sweep()");
        let log = cluster.log_bytes();
        let quoted = [b"\"", encoding.as_bytes(), b":", *bytes].concat();
        let broken = [
            b"softlock broke the lock on ",
            &quoted[..],
            b"\" of owner \"",
            bytes,
            b"\" (role \"postgres\"), by role \"postgres\": ",
            bytes,
        ]
        .concat();
        let swept = [
            b"1 expired lock in ".to_vec(),
            [&quoted[..], b" lapses\""].concat(),
        ];
        for part in [&broken].into_iter().chain(&swept) {
            assert!(
                log.windows(part.len()).any(|window| window == part),
                "{encoding}: {:?} is not in the log",
                String::from_utf8_lossy(part)
            );
        }
    }
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let cluster = Cluster::start(&[]);
    let mut client = database(&cluster, "SQL_ASCII");
    let bad = r"convert_from('\xe9', 'SQL_ASCII')";
    for verb in [
        "softlock_acquire($, 'anna')",
        "softlock_acquire('k', $)",
        "softlock_acquire('k', 'anna', session => $)",
        "softlock_acquire_many(ARRAY['k', $], 'anna')",
        "softlock_acquire_many(ARRAY['k'], $)",
        "softlock_renew($, 'anna')",
        "softlock_release($, 'anna')",
        "softlock_release_all($)",
        "softlock_release_all('anna', $)",
        "softlock_consume(ARRAY['k', $], 'anna')",
        "softlock_status(ARRAY['k', $])",
        "softlock_status(ARRAY['k'], $)",
        "softlock_break($)",
        "softlock_break('k', $)",
    ] {
        let statement = format!("SELECT {}", verb.replace('$', bad));
        let error = error(&mut client, &statement);
        assert!(error.starts_with("22021"), "{verb}: {error}");
    }
    // Nobody can hold such a key, so nobody is in the way of a write. Where a hold is required there is none,
    // which the server can't say in the client's encoding.
    for (require, outcome) in [("", Ok(())), (", 'require'", Err("22021"))] {
        client
            .batch_execute(&format!(
                "CREATE TABLE kit (name text, sold bool); INSERT INTO kit VALUES ({bad});
                 CREATE TRIGGER held BEFORE UPDATE ON kit
                    FOR EACH ROW EXECUTE FUNCTION softlock_guard('kit:', 'name'{require})"
            ))
            .unwrap();
        let update = client.batch_execute("UPDATE kit SET sold = true");
        let code = update
            .as_ref()
            .map_err(|error| error.code().unwrap().code());
        assert_eq!(code.copied(), outcome, "{require}");
        client.batch_execute("DROP TABLE kit").unwrap();
    }
    assert_eq!(client.rows(), 0);
}
