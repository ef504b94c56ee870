-- What has to hold after pg_upgrade: a sentence and whether it does, a row each.
CREATE FUNCTION pg_temp.sqlstate_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    RETURN '00000';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;

SELECT 'a live hold is refused to somebody else',
       softlock_acquire('kit:2', 'boris')->>'outcome' = 'held';
SELECT 'its holder renews it with the token from before',
       softlock_renew('kit:2', 'anna', token => (SELECT token FROM told WHERE resource = 'kit:2'))->>'renewed' = 'true';
SELECT 'metadata and session are shown',
       (metadata, session)::text = $$("{""till"": 2}",cart-0)$$
FROM softlock_status('{kit:2}', 'anna');
SELECT 'the lock of another role is that role''s',
       role = 'till'::regrole FROM softlock_active WHERE resource = 'seat:1';
SELECT 'as many units are left as before',
       (answer->>'outcome', answer->>'available') = ('held', '5')
FROM softlock_acquire('roses', 'vera', units => 6, capacity => 10) AS answer;
SELECT 'a policy limits what an owner may have',
       array_agg(softlock_acquire('seat:' || n, 'anna')->>'outcome' ORDER BY n) = '{granted,quota}'
FROM generate_series(2, 3) AS n;
SELECT 'what a DBA has granted stays granted',
       has_function_privilege('dba', 'softlock_break(text, text)', 'EXECUTE');
REVOKE EXECUTE ON FUNCTION softlock_break(text, text) FROM dba;
SELECT 'every token afterwards is larger',
       bool_and((softlock_acquire(resource, 'anna', session => 'after')->>'token')::bigint > (SELECT max(token) FROM told))
FROM unnest('{lapsed:1,ended:1,new:1,kit:4}'::text[]) AS asked (resource);

SELECT 'the guard refuses what is held',
       pg_temp.sqlstate_of('UPDATE kit SET price = 0 WHERE id = 2') = 'SL002';
SET softlock.owner = 'anna';
SELECT 'the guard lets the holder through',
       pg_temp.sqlstate_of('UPDATE kit SET price = 0 WHERE id = 2') = '00000';

SET softlock.history = 'all';
SELECT 'a cart is sold', softlock_consume('{kit:2,kit:4}', 'anna')->>'consumed_count' = '2';

SELECT 'the history goes back to before the upgrade, and on',
       count(*) FILTER (WHERE event = 'granted') > 40 AND bool_or(event = 'released') AND bool_or(event = 'consumed')
FROM softlock_history;

-- The worker, from now on.
ALTER SYSTEM SET softlock.sweep_interval = 1;
SELECT pg_reload_conf() \g /dev/null
SET statement_timeout = '60s';
DO $$ BEGIN
    WHILE EXISTS (SELECT FROM softlock.locks WHERE resource LIKE 'lapsed:%' AND expires_at < now()) LOOP
        PERFORM pg_sleep(0.05);
        COMMIT;
    END LOOP;
END $$;
SELECT 'the worker sweeps what lapsed before the upgrade', true;
DO $$ BEGIN
    WHILE (SELECT locked_until IS NOT NULL FROM reservation WHERE kit = -3) LOOP
        PERFORM pg_sleep(0.05);
        COMMIT;
    END LOOP;
END $$;
SELECT 'an adopted table is swept on',
       string_agg(kit::text, ' ' ORDER BY kit) FILTER (WHERE locked_until IS NULL AND locked_by IS NULL) = '-3 -1'
FROM reservation;
