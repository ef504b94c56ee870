//! Who may do what, after the update as before it.

use postgres::Client;

use super::{FORMER, FormerVersion, NEVER, UPDATE, database_with, lines, refused, with_former};
use crate::harness::Cluster;

#[cfg(not(feature = "pg13"))] // which has no role for the owner of a database
#[test]
fn what_a_dba_has_granted_and_revoked_stays_also_in_a_dump_and_restore() {
    use super::{assert_same, installed};
    use crate::harness::{Ask, run};

    let cluster = Cluster::start(&[NEVER]);
    let mut client = with_former(&cluster, "shop", "public");
    client
        .batch_execute(
            "CREATE ROLE till; CREATE ROLE manager; CREATE ROLE shop_owner LOGIN;
             ALTER DATABASE shop OWNER TO shop_owner;
             GRANT SELECT ON softlock_active TO till;
             REVOKE SELECT ON softlock_active FROM pg_monitor;
             GRANT USAGE ON SCHEMA softlock TO manager;
             GRANT SELECT ON SEQUENCE softlock.token TO manager;
             GRANT EXECUTE ON FUNCTION softlock_break(text, text), softlock_sweep(integer) TO manager;
             GRANT EXECUTE ON FUNCTION softlock_status(text[], text) TO till WITH GRANT OPTION;
             REVOKE EXECUTE ON FUNCTION softlock_acquire(text, text, interval, text, jsonb, interval),
                 softlock_status(text[], text) FROM PUBLIC",
        )
        .unwrap();
    client.batch_execute(UPDATE).unwrap();
    let may = |client: &mut Client| {
        client.ask(
            "SELECT concat_ws(' ', has_table_privilege('till', 'softlock_active', 'SELECT'),
                 has_function_privilege('manager', 'softlock_break(text, text)', 'EXECUTE'),
                 has_function_privilege('manager', 'softlock_sweep(integer)', 'EXECUTE'),
                 has_function_privilege('till', 'softlock_status(text[], text)', 'EXECUTE WITH GRANT OPTION'),
                 has_schema_privilege('manager', 'softlock', 'USAGE'),
                 has_sequence_privilege('manager', 'softlock.token', 'SELECT'), 'not',
                 has_table_privilege('pg_monitor', 'softlock_active', 'SELECT'),
                 has_function_privilege('manager', 'softlock_status(text[], text)', 'EXECUTE'),
                 has_function_privilege('manager',
                     'softlock_acquire(text, text, interval, text, jsonb, interval, integer, integer)', 'EXECUTE'))",
        )
    };
    assert_eq!(may(&mut client), "t t t t t t not f f f");

    // Dumped by the database's owner, who could not dump 0.1.0.
    let mut pg_dump = cluster.program("pg_dump");
    let dump = run(pg_dump.args(["-U", "shop_owner", "shop"])).stdout;
    let script = cluster.dir().join("shop.sql");
    std::fs::write(&script, dump).unwrap();
    let mut restored = database_with(&cluster, "restored", "public");
    run(cluster
        .program("psql")
        .args(["-X", "-v", "ON_ERROR_STOP=1", "-d", "restored", "-f"])
        .arg(&script));
    assert_eq!(may(&mut restored), may(&mut client));
    assert_same("restored", installed(&mut restored), installed(&mut client));
}

#[test]
fn what_default_privileges_gave_away_at_the_installation_is_taken_back() {
    let cluster = Cluster::start(&[NEVER]);
    let mut client = database_with(&cluster, "shop", "public");
    let _former = FormerVersion::install();
    client
        .batch_execute(&format!(
            "CREATE ROLE app; CREATE ROLE later;
             ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO app;
             ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO app;
             ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO app;
             ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO app;
             CREATE EXTENSION softlock VERSION '{FORMER}';
             ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO later;
             ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO later;
             ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO later;
             GRANT EXECUTE ON FUNCTION softlock_sweep(integer) TO later;
             {UPDATE}"
        ))
        .unwrap();
    client
        .batch_execute(
            "CREATE VIEW granted AS
             SELECT a.grantee::regrole::text AS to, o.what, a.privilege_type AS privilege
             FROM (SELECT tableoid, oid, relname::text, relacl FROM pg_class
                   UNION ALL
                   SELECT tableoid, oid, proname, proacl FROM pg_proc
                   UNION ALL
                   SELECT tableoid, oid, nspname, nspacl FROM pg_namespace
             ) AS o (class, oid, what, acl)
             JOIN pg_depend AS d ON (d.classid, d.objid, d.deptype) = (o.class, o.oid, 'e')
             JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'softlock'
             CROSS JOIN aclexplode(acl) AS a",
        )
        .unwrap();
    let mut has = |role: &str, except: &str| {
        lines(
            &mut client,
            &format!(
                "SELECT what || ' ' || privilege FROM granted WHERE \"to\" = '{role}' AND what <> ALL ('{except}') ORDER BY 1"
            ),
        )
    };
    // What every role may do by itself, and reading.
    let verbs = "{softlock_acquire,softlock_acquire_many,softlock_renew,softlock_release,softlock_release_all,softlock_consume,softlock_status,softlock_guard}";
    assert_eq!(
        has("app", verbs),
        ["locks SELECT", "softlock USAGE", "token SELECT"]
    );
    assert_eq!(has("later", "{}"), ["softlock_sweep EXECUTE"]);
}

#[test]
fn what_is_made_anew_is_whose_it_was_and_for_those_who_were_allowed_to_call_it() {
    let cluster = Cluster::start(&[NEVER]);
    let mut client = with_former(&cluster, "shop", "public");
    let allowed = |client: &mut Client| {
        lines(
            client,
            "SELECT concat_ws(' ', proname, proowner::regrole, 'for',
                 CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END, is_grantable)
             FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner)))
             WHERE proname IN ('softlock_acquire', 'softlock_acquire_many', 'softlock_status')
             ORDER BY 1",
        )
    };
    client
        .batch_execute(
            "CREATE ROLE clerk; CREATE ROLE \"Till, 1\"; CREATE ROLE boy;
             REVOKE EXECUTE ON FUNCTION softlock_acquire(text, text, interval, text, jsonb, interval) FROM PUBLIC;
             GRANT EXECUTE ON FUNCTION softlock_acquire(text, text, interval, text, jsonb, interval)
                 TO \"Till, 1\" WITH GRANT OPTION;
             SET ROLE \"Till, 1\";
             GRANT EXECUTE ON FUNCTION softlock_acquire(text, text, interval, text, jsonb, interval) TO boy;
             RESET ROLE;
             ALTER FUNCTION softlock_acquire_many(text[], text, interval, text, jsonb) OWNER TO clerk;
             ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO clerk",
        )
        .unwrap();
    let before = allowed(&mut client);
    client.batch_execute(UPDATE).unwrap();
    assert_eq!(allowed(&mut client), before);
    assert!(before.contains(&"softlock_acquire postgres for \"Till, 1\" t".into()));
    assert!(before.contains(&"softlock_acquire_many clerk for PUBLIC f".into()));
}

#[test]
fn only_who_owns_the_extension_updates_it() {
    let cluster = Cluster::start(&[NEVER]);
    let mut client = with_former(&cluster, "shop", "public");
    client
        .batch_execute(
            "CREATE ROLE shop_owner; ALTER DATABASE shop OWNER TO shop_owner; SET ROLE shop_owner",
        )
        .unwrap();
    assert_eq!(refused(&mut client, UPDATE).code().code(), "42501");
    client
        .batch_execute(&format!("RESET ROLE; {UPDATE}"))
        .unwrap();
}
