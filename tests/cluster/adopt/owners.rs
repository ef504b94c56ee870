//! Whose rights a sweep of an adopted table has: the table's owner's, and no more.

use super::{ADOPT, HELD, SHOP, await_no_sweeper, reserve};
use crate::harness::{Ask, Cluster, wait_until};
use crate::worker_watch::*;

/// Tries everything by which code could get more than its role's rights, and writes down what came of it.
const HOSTILE: &str = "
    CREATE ROLE eve;
    CREATE SCHEMA eve AUTHORIZATION eve;
    CREATE TABLE treasure (n int);
    SET ROLE eve;
    CREATE TABLE eve.tried (by text, at text, what text, outcome text);
    CREATE FUNCTION eve.tries(at text) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        what text;
    BEGIN
        FOREACH what IN ARRAY ARRAY[
            'SET ROLE postgres', 'RESET ROLE', 'SET SESSION AUTHORIZATION postgres', 'RESET SESSION AUTHORIZATION',
            'ALTER ROLE eve SUPERUSER', 'SET session_replication_role = replica', 'INSERT INTO public.treasure VALUES (1)',
            'CREATE TEMPORARY TABLE kept (n int)', 'DECLARE kept CURSOR WITH HOLD FOR SELECT 1', 'PREPARE kept AS SELECT 1',
            'SET log_min_messages = panic', 'COPY eve.tried TO PROGRAM ''true''',
            'SET search_path = eve', 'SET lock_timeout = 0', 'SET softlock.owner = ''eve'''
        ] LOOP
            BEGIN
                EXECUTE what;
                INSERT INTO eve.tried VALUES (current_user, at, what, 'done');
            EXCEPTION WHEN OTHERS THEN
                INSERT INTO eve.tried VALUES (current_user, at, what, SQLSTATE);
            END;
        END LOOP;
    END $$;
    CREATE FUNCTION eve.trigger_tries() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM eve.tries(TG_NAME);
        RETURN NEW;
    END $$;
    -- It lies about writing nothing.
    CREATE FUNCTION eve.condition_tries() RETURNS boolean LANGUAGE plpgsql STABLE AS $$
    BEGIN
        PERFORM eve.tries('condition');
        RETURN true;
    END $$;
    -- What softlock's own statement would use, if it could be led astray.
    CREATE FUNCTION eve.less(timestamptz, timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO eve.tried VALUES (current_user, 'operator', '<=', 'done');
        RETURN true;
    END $$;
    CREATE OPERATOR eve.<= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = eve.less);
    CREATE TABLE eve.bait (until timestamptz, kit int);
    CREATE TRIGGER before BEFORE UPDATE ON eve.bait FOR EACH ROW EXECUTE FUNCTION eve.trigger_tries();
    CREATE TRIGGER statement AFTER UPDATE ON eve.bait FOR EACH STATEMENT EXECUTE FUNCTION eve.trigger_tries();
    CREATE CONSTRAINT TRIGGER deferred AFTER UPDATE ON eve.bait INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION eve.trigger_tries();
    SELECT softlock_adopt('eve.bait', 'until', condition => 'eve.condition_tries()');
    INSERT INTO eve.bait VALUES (now(), 1), (now(), 2);
    RESET ROLE;";

#[test]
fn code_of_a_hostile_owner_gets_no_rights_but_its_own_and_what_it_sets_is_gone() {
    // Two batches, and a table of somebody else's after it.
    let cluster = Cluster::start(&[OFF, "softlock.sweep_batch = 1"]);
    let mut client = cluster.with_extension("postgres");
    client.batch_execute(HOSTILE).unwrap();
    client.batch_execute(SHOP).unwrap();
    client
        .batch_execute("ALTER ROLE eve SET search_path = eve; ALTER DATABASE postgres SET search_path = eve, public")
        .unwrap();
    client.batch_execute(ADOPT).unwrap();
    reserve(&mut client, 1..=3, "reserved", -5);
    cluster.reload(&[EVERY_SECOND]);
    wait_until("the sweep", || {
        client.ask("SELECT count(until) FROM eve.bait") == "0" && client.ask(HELD) == "0"
    });
    let what = "SELECT string_agg(DISTINCT by, ',') FROM eve.tried";
    assert_eq!(client.ask(what), "eve");
    let wheres = "SELECT string_agg(DISTINCT at, ',' ORDER BY at) FROM eve.tried";
    assert_eq!(client.ask(wheres), "before,condition,deferred,statement");
    // It may set what anybody may, for as long as the statement lasts.
    let done = "SELECT string_agg(DISTINCT what, ', ' ORDER BY what) FROM eve.tried WHERE outcome = 'done'";
    assert_eq!(
        client.ask(done),
        "SET lock_timeout = 0, SET search_path = eve, SET softlock.owner = 'eve'"
    );
    assert_eq!(
        client.ask("SELECT rolsuper FROM pg_roles WHERE rolname = 'eve'"),
        "f"
    );
    assert_eq!(client.ask("SELECT count(*) FROM treasure"), "0");
    // The same by hand, in a superuser's session, which is as it was.
    cluster.reload(&[OFF]);
    await_no_sweeper(&mut client);
    client
        .batch_execute(
            "DROP TRIGGER deferred ON eve.bait; SET session_replication_role = replica;
             UPDATE eve.bait SET until = now(); TRUNCATE eve.tried;
             RESET session_replication_role; SET search_path = public; SET lock_timeout = '7s'",
        )
        .unwrap();
    let settings = "SELECT concat_ws(' ', current_user, session_user, current_setting('search_path'),
        current_setting('lock_timeout'), current_setting('softlock.owner'), current_setting('session_replication_role'))";
    let before = client.ask(settings);
    client.ask("SELECT softlock_sweep(5)");
    assert_eq!(client.ask(settings), before);
    assert_eq!(client.ask(what), "eve");
    assert_eq!(client.ask("SELECT count(until) FROM eve.bait"), "0");
    assert!(client.ask(done).starts_with("SET lock_timeout"));
}

#[cfg(not(feature = "pg13"))] // which has no role for the owner of a database
#[test]
fn who_adopted_a_table_must_have_its_owners_privileges_at_every_sweep() {
    let cluster = Cluster::start(&[OFF]);
    let mut client = cluster.with_extension("postgres");
    client.batch_execute(HOSTILE).unwrap();
    // The table passes to a superuser, who would now run what eve has written.
    client
        .batch_execute("ALTER TABLE eve.bait OWNER TO postgres; TRUNCATE eve.tried")
        .unwrap();
    let error =
        "SELECT r->>'error' FROM softlock_sweep() AS s, jsonb_array_elements(s->'adopted') AS r";
    assert_eq!(
        client.ask(error),
        "who adopted it has not the privileges of the table's owner"
    );
    assert_eq!(client.ask("SELECT count(*) FROM eve.tried"), "0");
    // Nor does the owner of the database get anything into the list for a table that is not hers.
    client
        .batch_execute(
            "CREATE ROLE shop_owner LOGIN; ALTER DATABASE postgres OWNER TO shop_owner;
             CREATE TABLE treasury (until timestamptz); SET ROLE shop_owner",
        )
        .unwrap();
    let insert = "INSERT INTO softlock.adopted
        VALUES ('treasury', 'until', '{}', 'pg_sleep(0) IS NULL', NULL, NULL, 0, 10, now())";
    let refused = client.batch_execute(insert).unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501");
    for statement in [
        "UPDATE softlock.adopted SET condition = 'true'",
        "DELETE FROM softlock.adopted",
        "TRUNCATE softlock.adopted",
        "ALTER TABLE softlock.adopted DISABLE TRIGGER ALL",
    ] {
        let refused = client.batch_execute(statement).unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{statement}");
    }
    // What she may put in is hers, whoever she says that it is, and runs as herself.
    client
        .batch_execute(
            "RESET ROLE; ALTER TABLE treasury OWNER TO shop_owner; SET session_replication_role = replica;
             SET ROLE shop_owner",
        )
        .unwrap();
    client.batch_execute(insert).unwrap();
    client.batch_execute("RESET ROLE").unwrap();
    assert_eq!(
        client.ask(
            "SELECT adopted_by::regrole FROM softlock.adopted WHERE relation = 'treasury'::regclass"
        ),
        "shop_owner"
    );
    // Adopted anew by its owner, it is swept again.
    client
        .batch_execute("RESET session_replication_role; DROP TABLE treasury; SELECT softlock_adopt('eve.bait', 'until')")
        .unwrap();
    client.ask("SELECT softlock_sweep()");
    assert_eq!(client.ask("SELECT count(until) FROM eve.bait"), "0");
}

#[cfg(not(feature = "pg13"))] // which has no role for the owner of a database
#[test]
fn a_dump_and_restore_by_the_databases_owner_keeps_what_is_adopted() {
    use crate::harness::run;

    let cluster = Cluster::start(&[OFF]);
    drop(cluster.with_extension("shop"));
    let mut client = cluster.connect("postgres");
    client
        .batch_execute("CREATE ROLE shop_owner LOGIN; ALTER DATABASE shop OWNER TO shop_owner; CREATE ROLE other_owner LOGIN")
        .unwrap();
    client
        .batch_execute("CREATE DATABASE restored OWNER other_owner")
        .unwrap();
    // Numbers of tables differ from what they were.
    let mut restored = cluster.connect("restored");
    restored
        .batch_execute("CREATE TABLE gap (n text); DROP TABLE gap")
        .unwrap();
    let mut shop = cluster.connect("shop");
    shop.batch_execute("CREATE SCHEMA \"The Shop\" AUTHORIZATION shop_owner; SET ROLE shop_owner; SET search_path = \"The Shop\", public")
        .unwrap();
    shop.batch_execute(SHOP).unwrap();
    shop.batch_execute(ADOPT).unwrap();
    reserve(&mut shop, 1..=3, "reserved", -5);
    reserve(&mut shop, 4..=4, "sold", -5);
    shop.batch_execute("CREATE TABLE gone (until timestamptz); SELECT softlock_adopt('gone', 'until'); DROP TABLE gone")
        .unwrap();
    let mut pg_dump = cluster.program("pg_dump");
    let dump = run(pg_dump.args(["-U", "shop_owner", "--no-owner", "shop"])).stdout;
    let script = cluster.dir().join("shop.sql");
    std::fs::write(&script, dump).unwrap();
    run(cluster
        .program("psql")
        .args([
            "-X",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "other_owner",
            "-d",
            "restored",
            "-f",
        ])
        .arg(&script));
    let adopted = "SELECT concat_ws(' ', relation, expires_column, clears, condition, label)
                   FROM softlock.adopted WHERE relation::text ~ 'inventory'";
    shop.batch_execute("RESET search_path").unwrap();
    assert_eq!(restored.ask(adopted), shop.ask(adopted));
    assert_eq!(
        restored.ask("SELECT adopted_by::regrole FROM softlock.adopted"),
        "other_owner"
    );
    let swept =
        "SELECT r->>'affected' FROM softlock_sweep() AS s, jsonb_array_elements(s->'adopted') AS r";
    assert_eq!(restored.ask(swept), "[\"1\", \"2\", \"3\"]");
}
