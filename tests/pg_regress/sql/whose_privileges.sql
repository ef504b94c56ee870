-- Whose privileges count: those of current_user, as everywhere in PostgreSQL. So code that others get run in
-- one's session (by ANALYZE, CREATE INDEX, REINDEX, REFRESH, a trigger, a function of theirs) never acts as one.
\set ECHO none
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS softlock CASCADE;
CREATE EXTENSION softlock;
CREATE ROLE softlock_eve;
CREATE ROLE softlock_till;
CREATE ROLE softlock_app;
GRANT CREATE ON SCHEMA public TO softlock_eve, softlock_app;
\set ECHO queries
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on

-- The superuser holds kit:1, the till kit:2. Eve plants a function that frees both, and takes kit:9, where
-- others will run it.
SELECT softlock_acquire('kit:1', 'anna')->>'outcome';
SET ROLE softlock_till;
SELECT softlock_acquire('kit:2', 'anna')->>'outcome';
SET ROLE softlock_eve;
CREATE FUNCTION plant(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RAISE INFO '%: %, %, %, %', current_user, public.softlock_release('kit:1', 'anna')->>'outcome', public.softlock_release('kit:2', 'anna')->>'outcome',
        public.softlock_release_all('anna')->>'released_count', public.softlock_acquire('kit:9', 'eve')->>'outcome';
    RETURN n;
END $$;
CREATE TABLE bait (n int, note text);
CREATE INDEX bait_idx ON bait (plant(n));
INSERT INTO bait VALUES (1);
RESET ROLE;
-- As the superuser.
ANALYZE bait;
VACUUM ANALYZE bait;
REINDEX TABLE bait;
REINDEX INDEX bait_idx;
CREATE INDEX bait_by_superuser ON bait (plant(n));
SET ROLE softlock_eve;
CREATE MATERIALIZED VIEW bait_view AS SELECT plant(n) FROM bait;
RESET ROLE;
REFRESH MATERIALIZED VIEW bait_view;
-- A trigger function of eve's on the superuser's table. (What is not SECURITY DEFINER runs as the one who
-- writes, here as anywhere.)
SET ROLE softlock_eve;
CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN PERFORM public.plant(1); RETURN NEW; END $$;
GRANT EXECUTE ON FUNCTION planted TO PUBLIC;
RESET ROLE;
CREATE TABLE own (n int);
CREATE TRIGGER planted BEFORE INSERT ON own FOR EACH ROW EXECUTE FUNCTION planted();
INSERT INTO own VALUES (1);
-- Nothing was freed.
SELECT resource, owner, role FROM softlock_active ORDER BY resource;

-- An application's own SECURITY DEFINER function: its locks are its owner's, for whoever calls it.
SET ROLE softlock_app;
CREATE FUNCTION app_take(kit text) RETURNS text SECURITY DEFINER LANGUAGE sql SET search_path TO pg_catalog, pg_temp AS
$$ SELECT public.softlock_acquire('kit:' || kit, 'anna')->>'outcome' $$;
CREATE FUNCTION app_sell(kit text) RETURNS text SECURITY DEFINER LANGUAGE sql SET search_path TO pg_catalog, pg_temp AS
$$ SELECT public.softlock_consume(ARRAY['kit:' || kit], 'anna')->>'consumed_count' $$;
CREATE TABLE stock (kit text);
INSERT INTO stock VALUES ('7');
CREATE TRIGGER guard BEFORE UPDATE ON stock FOR EACH ROW EXECUTE FUNCTION softlock_guard('kit:', 'kit');
CREATE FUNCTION app_write() RETURNS void SECURITY DEFINER LANGUAGE sql SET softlock.owner TO 'anna' AS
$$ UPDATE public.stock SET kit = kit $$;
GRANT UPDATE, SELECT ON stock TO softlock_till;
SET ROLE softlock_till;
SELECT app_take('7'), app_take('7');
SELECT role FROM softlock_status('{kit:7}'), LATERAL (SELECT softlock_acquire('kit:7', 'anna')->>'role') AS a(role);
SELECT softlock_release('kit:7', 'anna')->>'outcome', softlock_renew('kit:7', 'anna')->>'role';
SELECT locked_by_me FROM softlock_status('{kit:7}', 'anna');
SET softlock.owner = 'anna';
UPDATE stock SET kit = kit;
RESET softlock.owner;
SELECT app_write();
SELECT app_sell('7');
SELECT softlock_acquire('kit:7', 'anna')->>'outcome';
SELECT app_sell('7');
SELECT softlock_consume('{kit:7}', 'anna');
RESET ROLE;

-- What a savepoint or an error inside such a function does to the role, ends with it.
CREATE FUNCTION app_fails() RETURNS void SECURITY DEFINER LANGUAGE plpgsql AS $$ BEGIN PERFORM softlock_consume('{kit:0}', 'anna'); END $$;
ALTER FUNCTION app_fails OWNER TO softlock_app;
DO $$ BEGIN PERFORM app_fails(); EXCEPTION WHEN SQLSTATE 'SL001' THEN RAISE INFO '%', SQLERRM; END $$;
SELECT current_user, softlock_acquire('kit:8', 'anna')->>'outcome', (SELECT role FROM softlock_active WHERE resource = 'kit:8');

-- SET ROLE, and a session authorization: the role of the call.
SET SESSION AUTHORIZATION softlock_till;
SELECT softlock_acquire('kit:3', 'anna')->>'outcome', softlock_acquire('kit:8', 'anna')->>'role';
RESET SESSION AUTHORIZATION;
SELECT role FROM softlock_active WHERE resource = 'kit:3';

-- Neither acquire nor anything else touches the caller's own sequences.
CREATE SEQUENCE own_sequence;
SELECT nextval('own_sequence'), lastval();
SELECT softlock_acquire('kit:4', 'anna')->>'outcome', softlock_acquire_many('{kit:5,kit:6}', 'anna')->>'acquired', softlock_renew('kit:4', 'anna')->>'outcome',
    softlock_acquire('kit:4', 'anna', session => 'tab')->>'outcome', softlock_sweep()->>'released_count';
SELECT pg_sleep(1.1), softlock_acquire('later', 'anna')->>'outcome';
SELECT lastval(), currval('own_sequence');

\set ECHO none
DROP SEQUENCE own_sequence;
DROP TABLE own, bait CASCADE;
DROP EXTENSION softlock CASCADE;
DROP OWNED BY softlock_eve, softlock_till, softlock_app;
DROP ROLE softlock_eve, softlock_till, softlock_app;
