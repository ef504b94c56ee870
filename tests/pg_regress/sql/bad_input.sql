-- Bad input: each gets a clear error or works; nothing is written, and the session lives on.
\set ECHO none
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS softlock CASCADE;
CREATE EXTENSION softlock;
\set ECHO queries
-- What a call raises, or 'works'.
CREATE FUNCTION pg_temp.raises(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE state text; message text; detail text; hint text;
BEGIN
    EXECUTE 'SELECT ' || call;
    RETURN 'works';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', state, message, nullif(detail, ''), nullif(hint, ''));
END $$;
\pset format unaligned
\pset tuples_only on

-- names
SELECT pg_temp.raises($$softlock_acquire(NULL, 'anna')$$);
SELECT pg_temp.raises($$softlock_acquire('k', NULL)$$);
SELECT pg_temp.raises($$softlock_acquire('', 'anna')$$);
SELECT pg_temp.raises($$softlock_acquire('k', '')$$);
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', session => '')$$);
SELECT pg_temp.raises($$softlock_acquire(repeat('x', 1025), 'anna')$$);
SELECT pg_temp.raises($$softlock_acquire('k', repeat('x', 257))$$);
SELECT pg_temp.raises($$softlock_acquire('k', repeat('ё', 129))$$);
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', session => repeat('x', 257))$$);
SELECT pg_temp.raises($$softlock_renew(NULL, 'anna')$$);
SELECT pg_temp.raises($$softlock_release('k', NULL)$$);
SELECT pg_temp.raises($$softlock_release_all(NULL)$$);
SELECT pg_temp.raises($$softlock_break('')$$);
SELECT pg_temp.raises($$softlock_break('k', repeat('x', 1025))$$);
SELECT pg_temp.raises($$softlock_status(NULL)$$);
SELECT pg_temp.raises($$softlock_status(ARRAY['k', NULL])$$);
SELECT pg_temp.raises($$softlock_status(ARRAY['k'], '')$$);

-- time to live
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', '0')$$);
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', '-1.5 s')$$);
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', '1 month')$$);
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', '178000000 years')$$);
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', '24 hours 1 microsecond')$$);
SELECT pg_temp.raises($$softlock_renew('k', 'anna', '-1 day')$$);
-- From PostgreSQL 17 an interval can be infinite; before, it is refused as the interval it is not.
SELECT left(pg_temp.raises($$softlock_acquire('k', 'anna', 'infinity')$$), 3) IN ('220', '22P') AS infinite_is_refused;
SET softlock.default_ttl = '2d';
SELECT pg_temp.raises($$softlock_acquire('k', 'anna')$$);
SELECT pg_temp.raises($$softlock_renew('k', 'anna')$$);
SET softlock.max_ttl = '60d';
SELECT pg_temp.raises($$softlock_acquire('month', 'anna', '1 month')$$);
SELECT date_trunc('minute', remaining + '1 s') FROM softlock_active WHERE resource = 'month';
RESET softlock.max_ttl;
RESET softlock.default_ttl;
-- How these two are worded depends on the server's version.
\set VERBOSITY sqlstate
SET softlock.default_ttl = 0;
SET softlock.max_ttl = -1;
\set VERBOSITY default
SET softlock.sweep_interval = '1 s';

-- metadata
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', metadata => '[1]')$$);
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', metadata => '"x"')$$);
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', metadata => '1')$$);
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', metadata => 'true')$$);
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', metadata => 'null')$$);
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', metadata => jsonb_build_object('x', repeat('y', 8192)))$$);
SELECT pg_temp.raises($$softlock_acquire_many(ARRAY['k'], 'anna', metadata => '[1]')$$);

-- wait
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', wait => NULL)$$);
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', wait => '-1 s')$$);
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', wait => '61 s')$$);
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', wait => '178000000 years')$$);
SET softlock.max_wait = '2 h';
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', wait => '2 h 1 s')$$);
SELECT softlock_release('k', 'anna')->>'outcome', softlock_acquire('k', 'anna', wait => '2 h')->>'outcome', softlock_release('k', 'anna')->>'outcome';
SET softlock.max_wait = 0;
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', wait => '1 ms')$$);
RESET softlock.max_wait;

-- carts
SELECT pg_temp.raises($$softlock_acquire_many(NULL, 'anna')$$);
SELECT pg_temp.raises($$softlock_acquire_many(ARRAY['k', NULL], 'anna')$$);
SELECT pg_temp.raises($$softlock_acquire_many(ARRAY['k', ''], 'anna')$$);
SELECT pg_temp.raises($$softlock_acquire_many(ARRAY(SELECT g::text FROM generate_series(1, 1001) AS g), 'anna')$$);
SELECT pg_temp.raises($$softlock_consume(NULL, 'anna')$$);
SELECT pg_temp.raises($$softlock_consume(array_agg(r), 'anna') FROM unnest('{}'::text[]) AS r$$);
SELECT pg_temp.raises($$softlock_consume(coalesce(array_agg(r), '{}'), 'anna') FROM unnest('{}'::text[]) AS r$$);
SELECT pg_temp.raises($$softlock_consume(ARRAY['k', 'l'], 'anna', ARRAY[1])$$);
SELECT pg_temp.raises($$softlock_consume(ARRAY['k', 'l'], 'anna', ARRAY[1, NULL])$$);
SELECT softlock_acquire_many('{}', 'anna'), softlock_consume('{}', 'anna');

-- sweeps
SELECT pg_temp.raises($$softlock_sweep(0)$$);
SELECT pg_temp.raises($$softlock_sweep(-7)$$);

-- unknown tokens
SELECT softlock_renew('month', 'anna', token => -1)->>'outcome', softlock_release('month', 'anna', 9223372036854775807)->>'outcome';

-- Nothing of all that was written.
SELECT resource FROM softlock.locks;

-- Odd names are names.
SELECT r, softlock_acquire(r, 'anna')->>'outcome', softlock_acquire(r, 'boris')->>'resource' = r,
       softlock_release(r, 'anna')->>'outcome'
FROM unnest(ARRAY[$$'; DROP TABLE softlock.locks; --$$, 'букет:42', '花 束', E'a\nb\t"c"\\', ' ', 'K', 'k', repeat('x', 1024)]) WITH ORDINALITY AS u(r, n)
WHERE n < 8 OR length(softlock_acquire(r, 'anna')->>'resource') = 1024 AND softlock_release(r, 'anna') IS NULL;
SELECT resource FROM softlock.locks;

-- What is not in the server's locale is not in the server's hands: names are compared byte by byte.
SELECT softlock_acquire('é', 'anna')->>'outcome', softlock_acquire(U&'e\0301', 'boris')->>'outcome';
-- An array is counted before it is copied: what it is of makes no difference, and the server lives.
SELECT pg_temp.raises($$softlock_acquire_many(array_fill('kit:1'::text, ARRAY[6000000]), 'anna')$$);
SELECT pg_temp.raises($$softlock_consume(array_fill('kit:1'::text, ARRAY[6000000]), 'anna')$$);
SELECT pg_temp.raises($$softlock_consume(ARRAY['kit:1'], 'anna', array_fill(1::bigint, ARRAY[6000000]))$$);
SELECT pg_temp.raises($$softlock_status(array_fill('kit:1'::text, ARRAY[6000000]))$$);
SELECT pg_temp.raises($$softlock_status(array_fill(NULL::text, ARRAY[100, 101]))$$);
SELECT pg_temp.raises($$softlock_status(array_fill('kit:1'::text, ARRAY[10001]))$$);
SELECT count(*) FROM softlock_status(array_fill('kit:1'::text, ARRAY[10000]));
SELECT softlock_acquire_many(array_fill('kit:1'::text, ARRAY[10000]), 'anna')->'locks'->0->>'outcome',
       softlock_consume(array_fill('kit:1'::text, ARRAY[10000]), 'anna', NULL)->>'consumed_count';
-- Dimensions and bounds make no difference either.
SELECT jsonb_path_query_array(softlock_acquire_many(ARRAY[ARRAY['w', 'x'], ARRAY['y', 'x']], 'anna'), '$.locks[*].resource'),
       softlock_consume('[5:7]={w,x,y}', 'anna')->>'consumed_count';
DROP EXTENSION softlock;
