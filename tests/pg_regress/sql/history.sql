-- What a role sees of the history: what became of locks of its own roles, and no more; who monitors, and
-- the database's owner, see all. Nobody writes it.
\set ECHO none
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS softlock CASCADE;
CREATE EXTENSION softlock;
CREATE ROLE softlock_till;
CREATE ROLE softlock_office;
CREATE ROLE softlock_clerk IN ROLE softlock_till;
CREATE ROLE softlock_sleeper NOINHERIT IN ROLE softlock_till;
CREATE ROLE softlock_watcher IN ROLE pg_monitor;
CREATE ROLE softlock_owner;
CREATE ROLE softlock_reader;
CREATE ROLE softlock_leaver;
CREATE FUNCTION leak(what text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
    RAISE INFO 'leaked %', what;
    RETURN true;
END $$;
\set ECHO queries
\set VERBOSITY terse
\pset format unaligned
\pset tuples_only on
\set home :DBNAME
\set admin :USER

SET softlock.history = 'all';
SET ROLE softlock_till;
SELECT softlock_acquire('kit:1', 'anna', session => 'cart')->>'outcome';
SELECT softlock_release('kit:1', 'anna')->>'outcome';
SET ROLE softlock_office;
SELECT softlock_acquire('kit:2', 'olga')->>'outcome';
SET ROLE softlock_leaver;
SELECT softlock_acquire('kit:3', 'leo')->>'outcome';
RESET ROLE;
SELECT softlock_break('kit:2', 'inventory')->>'outcome';
SELECT softlock_break('kit:3')->>'outcome';
DROP ROLE softlock_leaver;

-- Those of one's own roles, with who did what to them.
SET ROLE softlock_till;
SELECT event, resource, owner, session, role, held IS NULL, reason FROM softlock_history ORDER BY id;
SET ROLE softlock_office;
SELECT event, resource, owner, session, role, actor = :'admin', held IS NULL, reason FROM softlock_history ORDER BY id;
SET ROLE softlock_clerk;
SELECT count(*), min(resource), max(resource) FROM softlock_history;
SET ROLE softlock_sleeper;
SELECT count(*) FROM softlock_history;
SET ROLE softlock_reader;
SELECT count(*) FROM softlock_history;
-- No function of theirs is shown more.
SET ROLE softlock_office;
SELECT resource FROM softlock_history WHERE leak(resource) ORDER BY id;
-- All of it; of a role that is gone there is the number.
SET ROLE softlock_watcher;
SELECT event, resource, role ~ '^\d+$' FROM (SELECT id, event, resource, role::text FROM softlock_history) AS h ORDER BY id;
SELECT count(*) FROM softlock.history;
RESET ROLE;

-- The database's owner, from PostgreSQL 14 on.
\set ECHO none
SELECT current_setting('server_version_num')::int < 140000 AS old \gset
\if :old
SELECT 6;
\else
ALTER DATABASE :"home" OWNER TO softlock_owner;
SET ROLE softlock_owner;
SELECT count(*) FROM softlock_history;
RESET ROLE;
ALTER DATABASE :"home" OWNER TO :"admin";
\endif
\set ECHO queries

-- Nobody reads or writes around it.
GRANT SELECT, INSERT, UPDATE, DELETE ON softlock.history TO softlock_reader;
GRANT USAGE ON SCHEMA softlock TO softlock_reader, softlock_till;
SET ROLE softlock_reader;
SELECT count(*) FROM softlock.history;
INSERT INTO softlock.history VALUES (1, now(), 'released', 'k', 'anna', NULL, 1, 'softlock_till', 'x', NULL, NULL);
UPDATE softlock.history SET actor = 'somebody else';
DELETE FROM softlock.history;
TRUNCATE softlock.history;
SET ROLE softlock_till;
SELECT count(*) FROM softlock.history;
INSERT INTO softlock_history (id) VALUES (1);
DELETE FROM softlock_history;
SET softlock.history = 'off';
SET ROLE softlock_watcher;
DELETE FROM softlock.history;
RESET ROLE;
SELECT count(*) FROM softlock.history;

-- What became of one resource is found by an index, also by who sees only a part.
SET enable_seqscan = off;
SET ROLE softlock_till;
CREATE TEMP TABLE plan (line text);
DO $$
DECLARE line text;
BEGIN
    FOR line IN EXPLAIN (COSTS OFF) SELECT * FROM softlock_history WHERE resource = 'kit:1' ORDER BY id LOOP
        INSERT INTO plan VALUES (line);
    END LOOP;
END $$;
SELECT count(*) FROM plan WHERE line LIKE '%history_resource_idx%';
RESET ROLE;

-- Settings are what they say.
SET softlock.history = 'some';
SET softlock.notify = 'on';
SET softlock.history_retention = '1 d';
SHOW softlock.history_retention;
\set ECHO none
DROP TABLE plan;
DROP EXTENSION softlock CASCADE;
DROP ROLE softlock_till, softlock_office, softlock_clerk, softlock_sleeper, softlock_watcher, softlock_owner, softlock_reader;
