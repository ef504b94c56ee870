-- Who may do what.
\set ECHO none
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS softlock CASCADE;
CREATE EXTENSION softlock;
CREATE ROLE softlock_till;
CREATE ROLE softlock_member IN ROLE softlock_till;
CREATE ROLE softlock_other;
CREATE ROLE softlock_writer;
-- 13 does not have these two roles yet.
SELECT current_setting('server_version_num')::integer < 140000 AS before_14 \gset
\if :before_14
GRANT USAGE ON SCHEMA softlock TO softlock_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA softlock TO softlock_writer;
\else
GRANT pg_write_all_data, pg_read_all_data TO softlock_writer;
\endif
CREATE ROLE softlock_monitor IN ROLE pg_monitor;
GRANT CREATE ON SCHEMA public TO softlock_other;
\set ECHO queries
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on

-- The role is that of the session. Nobody needs a privilege on the schema of the tables to use the verbs.
SET ROLE softlock_till;
SELECT softlock_acquire('k', 'anna', session => 'cart')->>'outcome';
RESET ROLE;
SELECT role FROM softlock_active;

-- Another role is not the holder, even under the same owner's name.
SET ROLE softlock_other;
SELECT a->>'outcome', a->>'owner', a->>'role', a ? 'session' FROM softlock_acquire('k', 'anna') AS a;
SELECT softlock_acquire('k', 'anna')->>'outcome', softlock_renew('k', 'anna')->>'outcome', softlock_release('k', 'anna')->>'outcome';
SELECT softlock_release_all('anna')->>'released_count';
SELECT softlock_consume(ARRAY['k'], 'anna');
SELECT is_locked, locked_by_me, owner, session FROM softlock_status(ARRAY['k'], 'anna');

-- A member of the holder's role is, and so is a superuser; the lock stays the first role's.
SET ROLE softlock_member;
SELECT softlock_renew('k', 'anna')->>'outcome', softlock_acquire('k', 'anna')->>'outcome';
SELECT is_locked, locked_by_me, owner, session FROM softlock_status(ARRAY['k'], 'anna');
RESET ROLE;
SELECT softlock_renew('k', 'anna')->>'outcome', role FROM softlock_active;
SET ROLE softlock_member;
SELECT softlock_release('k', 'anna')->>'outcome';
RESET ROLE;

-- Nobody but the owner touches the table, not even who may write all data.
SET ROLE softlock_till;
SELECT * FROM softlock.locks;
INSERT INTO softlock.locks VALUES ('x', 'x', NULL, 1, 'postgres', NULL, now(), now());
SELECT nextval('softlock.token');
SELECT * FROM softlock_active;
SELECT softlock_sweep();
SELECT softlock_break('k');
SELECT * FROM softlock_pending();
SELECT softlock.pending();
SELECT softlock.check_preload();
SELECT setval('softlock.token', 1);
SELECT last_value FROM softlock.token;
TRUNCATE softlock.locks;
CREATE TRIGGER t BEFORE INSERT ON softlock.locks FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
CREATE TABLE softlock.t ();
RESET ROLE;
SELECT softlock_acquire('k', 'anna')->>'outcome';
SET ROLE softlock_writer;
SELECT count(*) FROM softlock.locks;
INSERT INTO softlock.locks VALUES ('x', 'x', NULL, 1, 'postgres', NULL, now(), now());
UPDATE softlock.locks SET owner = 'writer';
DELETE FROM softlock.locks;
TRUNCATE softlock.locks;
RESET ROLE;
SELECT resource, owner FROM softlock.locks;

-- Who monitors sees the live locks, and what has lapsed and is not swept; who is at it; never a token.
SELECT softlock_acquire('lapsed', 'anna', '1 us')->>'outcome';
SET ROLE softlock_monitor;
SELECT resource, owner FROM softlock_active;
SELECT resource, owner, session, role, metadata, acquired_at < expires_at, expires_at < clock_timestamp() FROM softlock.locks ORDER BY 1;
SELECT count(*) FROM softlock.locks WHERE expires_at <= clock_timestamp();
SELECT count(*) FROM softlock_pending();
SELECT token FROM softlock.locks;
SELECT version FROM softlock.locks;
SELECT * FROM softlock.locks;
SELECT last_value FROM softlock.token;
SELECT softlock_sweep();
SELECT softlock_break('k');
RESET ROLE;
SELECT softlock_sweep()->'affected';

-- GRANT lends what the DBA names.
GRANT SELECT ON softlock_active TO softlock_till;
GRANT EXECUTE ON FUNCTION softlock_break(text, text), softlock_sweep(integer) TO softlock_till;
SET ROLE softlock_till;
SELECT resource FROM softlock_active;
SELECT softlock_sweep()->>'released_count', softlock_break('k')->>'broken', softlock_break('k')->>'outcome';
RESET ROLE;
SELECT softlock_acquire('k', 'anna')->>'outcome';

-- A search_path full of other people's functions, operators and tables changes nothing.
SET ROLE softlock_other;
CREATE FUNCTION public.trap() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION public.nextval(text) RETURNS bigint LANGUAGE sql AS 'SELECT public.trap()';
CREATE FUNCTION public.unnest(text[]) RETURNS SETOF text LANGUAGE sql AS 'SELECT public.trap()::text';
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT now() WHERE public.trap() > 0';
CREATE FUNCTION public.text_trap(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT public.trap() > 0';
CREATE FUNCTION public.time_trap(timestamptz, timestamptz) RETURNS boolean LANGUAGE sql AS 'SELECT public.trap() > 0';
CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.text_trap);
CREATE OPERATOR public.<= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = public.time_trap);
CREATE OPERATOR public.> (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = public.time_trap);
CREATE TEMP TABLE locks (resource text, owner text);
CREATE FUNCTION pg_temp.nextval(text) RETURNS bigint LANGUAGE sql AS 'SELECT public.trap()';
SET search_path = pg_temp, public, pg_catalog;
SELECT softlock_acquire('h', 'eve')->>'outcome', softlock_acquire_many(ARRAY['h', 'i'], 'eve')->>'acquired';
SELECT softlock_renew('h', 'eve')->>'outcome', softlock_consume(ARRAY['i'], 'eve'), softlock_release_all('eve');
SELECT is_locked FROM softlock_status(ARRAY['h', 'k']);
RESET ROLE;
SELECT softlock_acquire('l', 'eve', '1 us')->>'outcome';
SELECT softlock_sweep()->>'released_count', softlock_break('k')->>'outcome';
SELECT count(*) FROM softlock_active;
RESET search_path;

-- Every object says what it is, but the types that go with tables.
SELECT pg_describe_object(classid, objid, 0) FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND classid <> 'pg_type'::regclass
  AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'softlock')
  AND obj_description(objid, classid::regclass::name) IS NULL;
SELECT a.attrelid::regclass, a.attname FROM pg_attribute AS a
WHERE a.attrelid IN ('softlock.locks'::regclass, 'softlock_active'::regclass, 'softlock.history'::regclass,
                     'softlock_history'::regclass) AND a.attnum > 0
  AND col_description(a.attrelid, a.attnum) IS NULL;

\set ECHO none
DROP EXTENSION softlock CASCADE;
DROP OWNED BY softlock_other, softlock_till;
DROP ROLE softlock_till, softlock_member, softlock_other, softlock_writer, softlock_monitor;
