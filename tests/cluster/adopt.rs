//! Adopted tables: shops that keep their lock columns, swept by the worker.

mod owners;

use postgres::Client;

use crate::harness::{Ask, Cluster, wait_until};
use crate::worker_watch::*;

/// A shop's table as it is, in the current schema, with an index; and one call to adopt it.
const SHOP: &str = "
    CREATE TABLE inventory_reservation (
        id bigserial PRIMARY KEY, product_kit_id bigint NOT NULL, status varchar(10) NOT NULL DEFAULT 'reserved',
        cart_lock_expires_at timestamptz, locked_by_user_id bigint, cart_session_id varchar(40));
    CREATE INDEX ON inventory_reservation (cart_lock_expires_at) WHERE cart_lock_expires_at IS NOT NULL;";
const ADOPT: &str = "
    SELECT softlock_adopt('inventory_reservation', 'cart_lock_expires_at',
        clears => '{locked_by_user_id,cart_session_id}', condition => $$status = 'reserved'$$, label => 'product_kit_id')";
const HELD: &str =
    "SELECT count(*) FROM inventory_reservation WHERE cart_lock_expires_at IS NOT NULL";

/// Puts kits into carts, the first of which has lapsed the longest ago.
fn reserve(client: &mut Client, kits: std::ops::RangeInclusive<i32>, status: &str, minutes: i32) {
    let (first, last) = (kits.start(), kits.end());
    client
        .batch_execute(&format!(
            "INSERT INTO inventory_reservation
                 (product_kit_id, status, cart_lock_expires_at, locked_by_user_id, cart_session_id)
             SELECT kit, '{status}', now() + '{minutes} min'::interval + kit * '1 ms'::interval, 7, 'cart'
             FROM generate_series({first}, {last}) AS kit"
        ))
        .unwrap();
}

fn warnings(cluster: &Cluster, table: &str) -> (usize, usize) {
    let count = |level| {
        cluster.log_count(&format!(
            "{level}:  softlock could not sweep table {table}: "
        ))
    };
    (count("WARNING"), count("DEBUG"))
}

fn await_no_sweeper(client: &mut Client) {
    let sweepers = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'softlock sweeper'";
    wait_until("the last sweep", || client.ask(sweepers) == "0");
}

/// Waits until a table has failed twice more.
fn table_fails_again(cluster: &Cluster, table: &str) {
    let before = warnings(cluster, table).1;
    wait_until("more sweeps that fail", || {
        warnings(cluster, table).1 >= before + 2
    });
}

#[test]
fn the_worker_frees_abandoned_carts_and_leaves_sold_and_live_ones_alone() {
    let cluster = Cluster::start(&[OFF, DEBUG]);
    let mut client = cluster.with_extension("postgres");
    client.batch_execute(SHOP).unwrap();
    client.batch_execute(ADOPT).unwrap();
    reserve(&mut client, 1..=12, "reserved", -5);
    reserve(&mut client, 100..=101, "sold", -5);
    reserve(&mut client, 200..=202, "reserved", 5);
    cluster.reload(&[EVERY_SECOND]);
    wait_until("the sweep", || client.ask(HELD) == "5");
    let left = "SELECT string_agg(product_kit_id || ' ' || status, ', ' ORDER BY id) FROM inventory_reservation
                WHERE locked_by_user_id = 7 AND cart_session_id = 'cart'";
    assert_eq!(
        client.ask(left),
        "100 sold, 101 sold, 200 reserved, 201 reserved, 202 reserved"
    );
    let line = "LOG:  softlock sweep released 12 expired rows of public.inventory_reservation in ";
    wait_until("the log line", || cluster.log_count(line) == 1);
    let log = cluster.log();
    let line = log.lines().find(|l| l.contains(line)).unwrap();
    assert!(
        line.ends_with(
            " ms: \"1\", \"2\", \"3\", \"4\", \"5\", \"6\", \"7\", \"8\", \"9\", \"10\" and 2 more"
        ),
        "{line}"
    );
    assert_eq!(cluster.log_count("DEBUG:  softlock released \""), 10);
    assert!(log.contains(
        "DEBUG:  softlock released \"1\" of public.inventory_reservation, expired at 20"
    ));
    // Nothing more is said when there is nothing to do.
    sweeps(&mut client);
    sweeps(&mut client);
    assert_eq!(cluster.log_count("public.inventory_reservation in "), 1);
    assert_quiet(&cluster, "");
}

#[test]
fn a_table_is_swept_in_batches_and_what_others_have_locked_is_left_for_the_next_round() {
    let cluster = Cluster::start(&[OFF, "softlock.sweep_batch = 10"]);
    let mut client = cluster.with_extension("postgres");
    client.batch_execute(SHOP).unwrap();
    // A batch is a transaction.
    client
        .batch_execute(
            "ALTER TABLE inventory_reservation ADD COLUMN freed_by xid8;
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN NEW.freed_by := pg_current_xact_id(); RETURN NEW; END $$;
             CREATE TRIGGER note BEFORE UPDATE ON inventory_reservation FOR EACH ROW EXECUTE FUNCTION note()",
        )
        .unwrap();
    client.batch_execute(ADOPT).unwrap();
    reserve(&mut client, 1..=47, "reserved", -5);
    let mut other = cluster.connect("postgres");
    other
        .batch_execute("BEGIN; SELECT FROM inventory_reservation WHERE product_kit_id IN (3, 30, 47) FOR UPDATE")
        .unwrap();
    cluster.reload(&[EVERY_SECOND]);
    wait_until("the sweep of the others", || client.ask(HELD) == "3");
    assert_eq!(
        client.ask("SELECT count(DISTINCT freed_by) FROM inventory_reservation"),
        "5"
    );
    sweeps(&mut client);
    assert_eq!(client.ask(HELD), "3");
    other.batch_execute("COMMIT").unwrap();
    wait_until("the sweep of the rest", || client.ask(HELD) == "0");
    assert_quiet(&cluster, "");
}

#[test]
fn what_fails_is_named_once_a_streak_and_stops_nothing_else() {
    let cluster = Cluster::start(&[OFF, DEBUG]);
    let mut client = cluster.with_extension("postgres");
    for table in ["altered", "locked", "refusing", "waiting", "well"] {
        client
            .batch_execute(&format!(
                "CREATE TABLE {table} (until timestamptz, kit int);
                 SELECT softlock_adopt('{table}', 'until', label => 'kit', condition => 'kit > 0');
                 INSERT INTO {table} VALUES (now(), 1)"
            ))
            .unwrap();
    }
    client
        .batch_execute(
            "ALTER TABLE altered RENAME kit TO product;
             CREATE TABLE counter AS SELECT 1 AS n;
             CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE 'not this one' USING DETAIL = 'It is mine.'; END $$;
             CREATE FUNCTION count_it() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN UPDATE public.counter SET n = n + 1; RETURN NEW; END $$;
             CREATE TRIGGER refuse BEFORE UPDATE ON refusing FOR EACH ROW EXECUTE FUNCTION refuse();
             CREATE TRIGGER count_it BEFORE UPDATE ON waiting FOR EACH ROW EXECUTE FUNCTION count_it()",
        )
        .unwrap();
    let mut blocker = cluster.connect("postgres");
    blocker
        .batch_execute("BEGIN; LOCK locked; UPDATE counter SET n = 0")
        .unwrap();
    client.lapse("k");
    cluster.reload(&[EVERY_SECOND]);
    let failing = ["altered", "locked", "refusing", "waiting"].map(|t| format!("public.{t}"));
    for table in &failing {
        table_fails_again(&cluster, table);
        assert_eq!(warnings(&cluster, table).0, 1, "{}", cluster.log());
    }
    assert_eq!(client.rows(), 0);
    assert_eq!(client.ask("SELECT count(until) FROM well"), "0");
    let why = "SELECT string_agg(last_error, '; ' ORDER BY relation::text) FROM softlock.adopted
               WHERE failed_at IS NOT NULL";
    assert_eq!(
        client.ask(why),
        "condition can't be used; the table is locked by another transaction; not this one; \
         canceling statement due to lock timeout"
    );
    let log = cluster.log();
    assert!(log.contains("DETAIL:  The server says: column \"kit\" does not exist."));
    assert!(log.contains("DETAIL:  It is mine."));
    blocker.batch_execute("ROLLBACK").unwrap();
    client
        .batch_execute("ALTER TABLE altered RENAME product TO kit; DROP TRIGGER refuse ON refusing")
        .unwrap();
    for table in &failing {
        wait_until("the sweep", || {
            client.ask(&format!("SELECT count(until) FROM {table}")) == "0"
        });
        let end = format!("LOG:  softlock sweeps table {table} again");
        wait_until("the end of the streak", || cluster.log_count(&end) == 1);
        assert_eq!(warnings(&cluster, table).0, 1);
    }
    assert_eq!(complaints(&cluster, "postgres"), (0, 0));
    assert_eq!(
        client.ask("SELECT count(*) FROM softlock.adopted WHERE last_error IS NOT NULL"),
        "0"
    );
}

#[test]
fn a_later_batch_that_fails_undoes_no_earlier_one() {
    let cluster = Cluster::start(&[OFF, DEBUG, "softlock.sweep_batch = 10", "timezone = 'UTC'"]);
    let mut client = cluster.with_extension("postgres");
    client
        .batch_execute(
            "CREATE TABLE parts (until timestamp, kit int) PARTITION BY HASH (kit);
             CREATE TABLE part0 PARTITION OF parts FOR VALUES WITH (modulus 2, remainder 0);
             CREATE TABLE part1 PARTITION OF parts FOR VALUES WITH (modulus 2, remainder 1);
             CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 IF NEW.kit = 45 THEN RAISE 'not this one'; END IF;
                 RETURN NEW;
             END $$;
             CREATE TRIGGER refuse BEFORE UPDATE ON parts FOR EACH ROW EXECUTE FUNCTION refuse();
             SELECT softlock_adopt('parts', 'until', label => 'kit');
             INSERT INTO parts SELECT timezone('UTC', now()) - interval '1 h' + n * interval '1 s', n
             FROM generate_series(1, 60) AS n",
        )
        .unwrap();
    cluster.reload(&[EVERY_SECOND]);
    table_fails_again(&cluster, "public.parts");
    let left = "SELECT concat_ws(' ', min(kit), count(*)) FROM parts WHERE until IS NOT NULL";
    assert_eq!(client.ask(left), "41 20");
    client
        .batch_execute("DROP TRIGGER refuse ON parts")
        .unwrap();
    wait_until("the sweep of the rest", || client.ask(left) == "0");
    assert_eq!(warnings(&cluster, "public.parts").0, 1);
}

#[test]
fn a_sweep_by_hand_waits_for_nobody_and_is_undone_with_its_transaction() {
    let cluster = Cluster::start(&[OFF]);
    let mut client = cluster.with_extension("postgres");
    client.batch_execute(SHOP).unwrap();
    client.batch_execute(ADOPT).unwrap();
    reserve(&mut client, 1..=3, "reserved", -5);
    let mut other = cluster.connect("postgres");
    let report = "SELECT concat_ws(' ', r->>'released_count', r->>'affected', r->>'error')
                  FROM softlock_sweep() AS s, jsonb_array_elements(s->'adopted') AS r";
    other
        .batch_execute("BEGIN; LOCK inventory_reservation IN SHARE MODE")
        .unwrap();
    client
        .batch_execute("SET statement_timeout = '5s'")
        .unwrap();
    assert_eq!(
        client.ask(report),
        "0 [] the table is locked by another transaction"
    );
    other.batch_execute("ROLLBACK").unwrap();
    // Who has the list locks nobody out either.
    other.batch_execute("BEGIN; LOCK softlock.adopted").unwrap();
    assert_eq!(client.ask("SELECT softlock_sweep()->>'adopted'"), "[]");
    other.batch_execute("ROLLBACK").unwrap();
    client.batch_execute("BEGIN").unwrap();
    assert_eq!(client.ask(report), "3 [\"1\", \"2\", \"3\"]");
    client.batch_execute("ROLLBACK").unwrap();
    assert_eq!(client.ask(HELD), "3");
    assert_eq!(cluster.log_count("softlock sweep released"), 0);
    assert_eq!(client.ask(report), "3 [\"1\", \"2\", \"3\"]");
    assert_eq!(cluster.log_count("softlock sweep released"), 1);
    // A snapshot that is too old is the caller's to hear of, as of any statement.
    reserve(&mut client, 4..=4, "reserved", -5);
    client
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM inventory_reservation")
        .unwrap();
    other
        .batch_execute(
            "UPDATE inventory_reservation SET locked_by_user_id = 8 WHERE product_kit_id = 4",
        )
        .unwrap();
    let error = client.batch_execute(report).unwrap_err();
    assert_eq!(error.code().unwrap().code(), "40001");
}

#[test]
fn a_table_that_is_gone_is_forgotten_and_another_of_its_number_is_not_taken_for_it() {
    let cluster = Cluster::start(&[EVERY_SECOND]);
    let mut client = cluster.with_extension("postgres");
    client.batch_execute(SHOP).unwrap();
    client.batch_execute(ADOPT).unwrap();
    client
        .batch_execute(
            "CREATE TABLE other (until timestamptz); INSERT INTO other VALUES (now());
             SELECT softlock_adopt('other', 'until');
             DROP TABLE inventory_reservation",
        )
        .unwrap();
    let adopted = "SELECT coalesce(string_agg(relation::text, ','), '') FROM softlock.adopted";
    wait_until("the worker forgets it", || client.ask(adopted) == "other");
    cluster.reload(&[OFF]);
    await_no_sweeper(&mut client);
    // As if it were a later one.
    client
        .batch_execute("UPDATE softlock.adopted SET row_type = 1; UPDATE other SET until = now()")
        .unwrap();
    assert_eq!(client.ask("SELECT softlock_sweep()->>'adopted'"), "[]");
    assert_eq!(client.ask("SELECT count(until) FROM other"), "1");
    assert_eq!(client.ask(adopted), "");
    assert_quiet(&cluster, "");
}

#[test]
fn a_table_that_gets_a_part_in_mid_sweep_keeps_what_has_not_lapsed_there() {
    let cluster = Cluster::start(&[OFF, "softlock.sweep_batch = 5"]);
    let mut client = cluster.with_extension("postgres");
    // So many lapsed ones that not all are named, and as many live ones in the same places elsewhere.
    client
        .batch_execute(
            "CREATE TABLE cart (id int, until timestamptz);
             CREATE TABLE archive (id int, until timestamptz);
             INSERT INTO cart SELECT n, now() FROM generate_series(1, 30) AS n;
             INSERT INTO archive SELECT n, now() + '1 h' FROM generate_series(1, 30) AS n;
             CREATE INDEX ON cart (until);
             CREATE FUNCTION attach() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN ALTER TABLE public.archive INHERIT public.cart; RETURN NULL; END';
             CREATE TRIGGER attach AFTER UPDATE ON cart FOR EACH ROW WHEN (OLD.id = 12) EXECUTE FUNCTION attach();
             SELECT softlock_adopt('cart', 'until')",
        )
        .unwrap();
    cluster.reload(&[EVERY_SECOND]);
    wait_until("the sweep", || {
        client.ask("SELECT count(until) FROM ONLY cart") == "0"
    });
    assert_eq!(client.ask("SELECT count(*) FROM cart"), "60");
    assert_eq!(client.ask("SELECT count(until) FROM archive"), "30");
}
