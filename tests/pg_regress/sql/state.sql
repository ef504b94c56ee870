-- softlock_status, softlock_active, read-only transactions, and the extension as such.
\set ECHO none
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS softlock CASCADE;
CREATE EXTENSION softlock;
\set ECHO queries
\set VERBOSITY verbose
\pset format unaligned
\pset tuples_only on

-- A row per resource asked about, in the asked order, also for free ones.
SELECT softlock_acquire('a', 'anna', '1 h', 'cart', '{"till": 1}')->>'outcome', softlock_acquire('b', 'boris', '1 h', 'cart')->>'outcome', softlock_acquire('gone', 'anna', '1 us')->>'outcome';
SELECT resource, is_locked, locked_by_me, owner, session, metadata, acquired_at < expires_at, remaining BETWEEN '59 min' AND '1 h'
FROM softlock_status(ARRAY['z', 'b', 'a', 'gone', 'a'], 'anna');
SELECT resource, is_locked, locked_by_me, owner, session FROM softlock_status(ARRAY['a']);
SELECT count(*) FROM softlock_status('{}');
SELECT resource, owner, session, role, metadata, acquired_at < expires_at, remaining BETWEEN '59 min' AND '1 h' FROM softlock_active ORDER BY resource;

-- State can be read in a read-only transaction; taking can't.
BEGIN READ ONLY;
SELECT is_locked FROM softlock_status(ARRAY['a']);
SELECT count(*) FROM softlock_active;
\set VERBOSITY sqlstate
SAVEPOINT s;
SELECT softlock_acquire('a', 'boris');
ROLLBACK TO s;
SELECT softlock_release('a', 'anna');
ROLLBACK TO s;
SELECT softlock_sweep();
ROLLBACK;

-- A refusal writes nothing: no WAL, no transaction id, no lock. (Reading may prune a page or two, and
-- the background writer logs now and then: of several rounds one is quiet.)
CREATE FUNCTION pg_temp.wal_of_refusals() RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE before pg_lsn := pg_current_wal_insert_lsn();
BEGIN
    PERFORM softlock_acquire('a', 'clara'), softlock_acquire_many(ARRAY['a', 'new'], 'clara'),
        softlock_acquire('a', 'clara', wait => '1 ms'), softlock_renew('a', 'clara'),
        softlock_release('a', 'clara'), softlock_break('new'), softlock_release_all('clara');
    RETURN pg_current_wal_insert_lsn() - before;
END $$;
BEGIN;
SELECT min(pg_temp.wal_of_refusals()) FROM generate_series(1, 10);
SELECT softlock_acquire('a', 'clara')->>'outcome', pg_current_xact_id_if_assigned() IS NULL;
SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND (locktype IN ('advisory', 'transactionid', 'tuple') OR mode = 'RowExclusiveLock');
COMMIT;

-- Settings.
SELECT name, setting, unit, context, vartype, min_val, max_val FROM pg_settings WHERE name LIKE 'softlock.%' ORDER BY name;
SELECT count(*) FROM pg_settings WHERE name LIKE 'softlock.%' AND short_desc = '';

-- The parameters have names.
SELECT softlock_acquire(owner => 'anna', resource => 'named', ttl => '1 h', session => 's', metadata => '{}', wait => '0')->>'outcome';
SELECT softlock_renew(owner => 'anna', resource => 'named', ttl => '2 h', token => NULL)->>'outcome';
SELECT softlock_consume(owner => 'anna', resources => ARRAY['named'], tokens => NULL);
SELECT (softlock_acquire('named', 'anna')->'acquired')::bool;

DROP EXTENSION softlock;
