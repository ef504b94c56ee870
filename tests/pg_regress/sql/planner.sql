-- A planner calls the verbs last, after whatever filters cost less; and as often as the rows that are left.
\set ECHO none
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS softlock CASCADE;
CREATE EXTENSION softlock;
CREATE TABLE kit AS SELECT i AS id, i AS price, i % 10 AS shelf FROM generate_series(1, 1000) AS i;
ANALYZE kit;
CREATE FUNCTION on_offer(int) RETURNS bool LANGUAGE plpgsql STABLE AS 'BEGIN RETURN $1 = 7; END';
CREATE FUNCTION dear(int) RETURNS bool LANGUAGE plpgsql COST 5000 AS 'BEGIN RETURN $1 = 7; END';
\set ECHO queries
\pset format unaligned
\pset tuples_only on
SELECT proname, procost, provolatile, proparallel FROM pg_proc WHERE proname LIKE 'softlock\_%' AND proname <> 'softlock_guard' ORDER BY proname;
-- Each of these shows or holds one row.
SELECT id FROM kit WHERE (softlock_acquire('kit:' || id, 'anna')->>'acquired')::bool AND id = 7;
SELECT softlock_release_all('anna')->>'released_count';
SELECT id FROM kit WHERE (softlock_acquire('kit:' || id, 'anna')->>'acquired')::bool AND on_offer(id);
SELECT softlock_release_all('anna')->>'released_count';
SELECT id FROM kit WHERE (softlock_acquire('kit:' || id, 'anna')->>'acquired')::bool AND dear(id) AND EXISTS (SELECT FROM kit AS k WHERE k.id = kit.shelf);
SELECT softlock_release_all('anna')->>'released_count';
SELECT id FROM kit WHERE (softlock_acquire_many(ARRAY['kit:' || id], 'anna')->>'acquired')::bool AND on_offer(id);
SELECT softlock_release_all('anna')->>'released_count';
SELECT id, softlock_acquire('kit:' || id, 'anna')->>'outcome' FROM kit ORDER BY price LIMIT 1;
SELECT softlock_release_all('anna')->>'released_count';
WITH free AS MATERIALIZED (SELECT id FROM kit ORDER BY price LIMIT 10)
SELECT id FROM free WHERE (softlock_acquire('kit:' || id, 'anna')->>'acquired')::bool LIMIT 1;
SELECT softlock_release_all('anna')->>'released_count';
-- Nor is anything released, renewed, broken or consumed that a filter leaves out.
SELECT softlock_acquire_many(ARRAY(SELECT 'kit:' || id FROM kit), 'anna')->>'acquired';
SELECT id FROM kit WHERE (softlock_release('kit:' || id, 'anna')->>'released')::bool AND on_offer(id);
SELECT id FROM kit WHERE (softlock_consume(ARRAY['kit:' || id], 'anna')->>'consumed_count')::int = 1 AND on_offer(id + 1);
SELECT id FROM kit WHERE (softlock_break('kit:' || id)->>'broken')::bool AND on_offer(id + 2);
SELECT count(*) FROM softlock_active;
-- In parallel plans the verbs stay in the leader.
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT count(*), count(DISTINCT a->>'outcome') FROM (SELECT softlock_acquire('kit:' || id, 'anna') AS a FROM kit WHERE shelf = 1) AS t;
SELECT count(*) FROM kit, LATERAL softlock_status(ARRAY['kit:' || id]) AS s WHERE shelf = 2 AND s.is_locked;
\set ECHO none
DROP TABLE kit;
DROP FUNCTION on_offer, dear;
DROP EXTENSION softlock;
