-- Privileges are what the extension says, whatever the default privileges are; and what the owner of a
-- database, who is no superuser, may do.
\set ECHO none
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS softlock CASCADE;
CREATE ROLE softlock_app LOGIN;
CREATE ROLE softlock_shy LOGIN;
CREATE ROLE softlock_owner LOGIN;
CREATE ROLE "Softlock-Monitor" LOGIN IN ROLE pg_monitor;
\set admin :USER
\set home :DBNAME
-- Who but its owner may do what with each object and column of the extension.
CREATE TABLE who_may (case_ text, object text, privilege text, grantee text, grantable boolean);
CREATE FUNCTION note(case_ text) RETURNS void LANGUAGE sql AS $$
    WITH object AS (
        SELECT c.relkind::"char" AS kind, c.oid::regclass::text AS name, relowner AS owner, relacl AS acl FROM pg_class AS c WHERE relnamespace = to_regnamespace('softlock') OR relname IN ('softlock_active', 'softlock_history') OR relname LIKE 'pg\_stat\_softlock%'
        UNION ALL SELECT 'c', attrelid::regclass || '.' || attname, relowner, attacl FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid WHERE relnamespace = to_regnamespace('softlock') AND attacl IS NOT NULL
        UNION ALL SELECT 'f', p.oid::regprocedure::text, proowner, proacl FROM pg_proc AS p WHERE proname LIKE '%softlock%' OR pronamespace = to_regnamespace('softlock')
        UNION ALL SELECT 'n', nspname, nspowner, nspacl FROM pg_namespace WHERE nspname = 'softlock'
    )
    INSERT INTO who_may
    SELECT case_, o.name, a.privilege_type, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END, a.is_grantable
    FROM object AS o, LATERAL aclexplode(coalesce(o.acl, acldefault(CASE o.kind WHEN 'S' THEN 's' WHEN 'f' THEN 'f' WHEN 'n' THEN 'n' WHEN 'c' THEN 'c' ELSE 'r' END::"char", o.owner))) AS a
    WHERE a.grantee <> o.owner AND o.kind NOT IN ('i');
$$;
CREATE FUNCTION difference(one text, two text) RETURNS TABLE (object text, privilege text, grantee text, grantable boolean) LANGUAGE sql AS $$
    (SELECT w.object, w.privilege, w.grantee, w.grantable FROM who_may AS w WHERE case_ = one EXCEPT SELECT w.object, w.privilege, w.grantee, w.grantable FROM who_may AS w WHERE case_ = two)
    UNION ALL
    (SELECT w.object, w.privilege, w.grantee, w.grantable FROM who_may AS w WHERE case_ = two EXCEPT SELECT w.object, w.privilege, w.grantee, w.grantable FROM who_may AS w WHERE case_ = one)
$$;
\set ECHO queries
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on

-- Nothing is anybody's but this.
CREATE EXTENSION softlock;
SELECT note('plain');
SELECT object, privilege, string_agg(grantee, ' ' ORDER BY grantee), bool_or(grantable) FROM who_may GROUP BY 1, 2 ORDER BY 1, 2;
DROP EXTENSION softlock;

-- Default privileges that give an application everything: to all, in a schema, with grant option.
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO softlock_app WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO softlock_app, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO softlock_app, "Softlock-Monitor";
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO softlock_app WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TYPES TO softlock_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO "Softlock-Monitor";
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO softlock_shy WITH GRANT OPTION;
CREATE EXTENSION softlock;
SELECT note('generous');
SELECT * FROM difference('plain', 'generous');
SET ROLE softlock_app;
SELECT softlock_acquire('k', 'anna')->>'outcome', softlock_release('k', 'anna')->>'outcome';
SELECT setval('softlock.token', 1);
SELECT count(*) FROM softlock.locks;
INSERT INTO softlock.locks SELECT 'x';
TRUNCATE softlock.locks;
CREATE TRIGGER t BEFORE INSERT ON softlock.locks FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
SELECT softlock_break('k');
SELECT softlock_sweep();
SELECT count(*) FROM softlock_active;
GRANT SELECT ON softlock_active TO softlock_shy;
RESET ROLE;
DROP EXTENSION softlock;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM softlock_app;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SEQUENCES FROM softlock_app, PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM softlock_app, "Softlock-Monitor";
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SCHEMAS FROM softlock_app;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TYPES FROM softlock_app;
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TABLES FROM "Softlock-Monitor";
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON FUNCTIONS FROM softlock_shy;

-- Default privileges that take what everybody has.
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON TABLES FROM CURRENT_USER;
CREATE EXTENSION softlock;
SELECT note('stingy');
SELECT * FROM difference('plain', 'stingy');
SET ROLE softlock_shy;
SELECT softlock_acquire('k', 'anna')->>'outcome', softlock_acquire_many('{l}', 'anna')->>'acquired', softlock_renew('k', 'anna')->>'outcome',
    softlock_release('k', 'anna')->>'outcome', softlock_consume('{l}', 'anna')->>'consumed_count', softlock_release_all('anna')->>'released_count',
    (SELECT is_locked FROM softlock_status('{k}'));
RESET ROLE;
DROP EXTENSION softlock;
ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT USAGE ON TYPES TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO CURRENT_USER;
SELECT count(*) FROM pg_default_acl;

-- The owner of a database creates the extension, and may sweep, break, and see; but not write the table.
CREATE DATABASE softlock_owned OWNER softlock_owner;
\c softlock_owned softlock_owner
CREATE EXTENSION softlock;
SELECT extowner::regrole FROM pg_extension WHERE extname = 'softlock';
SELECT relname, relowner::regrole = 10::oid::regrole FROM pg_class WHERE oid IN ('softlock.locks'::regclass, 'softlock.token'::regclass, 'softlock_active'::regclass) ORDER BY 1;
SELECT softlock_acquire('k', 'anna')->>'outcome', softlock_acquire('lapsed', 'anna', '1 us')->>'outcome';
SELECT resource FROM softlock_active;
SELECT count(*) FROM softlock_pending();
SELECT softlock_sweep()->'affected', softlock_break('k', 'by the owner')->>'outcome';
SELECT count(*) FROM softlock.locks;
INSERT INTO softlock.locks SELECT 'x';
TRUNCATE softlock.locks;
SELECT setval('softlock.token', 1);
ALTER TABLE softlock.locks ADD later text;
DROP TABLE softlock.locks;
CREATE TABLE softlock.mine ();
GRANT EXECUTE ON FUNCTION softlock_break(text, text) TO softlock_app;
SELECT softlock_acquire('of the owner', 'anna', '1 us')->>'outcome';
-- Everybody else in it: as anywhere.
\c softlock_owned softlock_app
SELECT softlock_acquire('k', 'boris')->>'outcome', softlock_renew('k', 'boris')->>'outcome';
SELECT softlock_sweep();
SELECT * FROM softlock_pending();
SELECT count(*) FROM softlock_active;
DROP EXTENSION softlock;
\c softlock_owned "Softlock-Monitor"
SELECT resource, expires_at <= clock_timestamp() FROM softlock.locks ORDER BY 1;
SELECT count(*) FROM softlock_active, softlock_pending();
SELECT token FROM softlock.locks;
SELECT softlock_break('k');
\c softlock_owned softlock_owner
DROP EXTENSION softlock;
-- The schema may be there, and be the owner's.
CREATE SCHEMA softlock;
CREATE EXTENSION softlock SCHEMA softlock;
SELECT softlock.softlock_acquire('k', 'anna')->>'outcome', softlock.softlock_sweep()->>'released_count', softlock.softlock_break('k')->>'outcome';
DROP TABLE softlock.locks;
DROP EXTENSION softlock;
DROP SCHEMA softlock;
\c :home :admin
\set ECHO none
DROP DATABASE softlock_owned;
DROP FUNCTION note, difference;
DROP TABLE who_may;
DROP ROLE softlock_app, softlock_shy, softlock_owner, "Softlock-Monitor";
