-- Units, any of several, whole carts, limits by kind: what each answers, and bad input.
\set ECHO none
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS softlock CASCADE;
CREATE EXTENSION softlock;
\set ECHO queries
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
-- An answer without what is another one every time.
CREATE FUNCTION pg_temp.told(answer jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace((answer - '{token,acquired_at,expires_at,resource,session,metadata,role}'::text[])::text,
                          '"(token|retry_after_ms|expires_at|acquired_at|pid)": ("[^"]*"|[0-9]+)', '"\1": …', 'g')
$$;
\pset format unaligned
\pset tuples_only on

-- units
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', units => 0)$$);
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', units => -1, capacity => 5)$$);
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', units => NULL)$$);
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', capacity => 0)$$);
SELECT pg_temp.raises($$softlock_acquire('k', 'anna', capacity => NULL)$$);
SELECT pg_temp.told(softlock_acquire('k', 'anna', units => 2));
SELECT pg_temp.told(softlock_acquire('rose', 'anna', units => 3, capacity => 10));
SELECT pg_temp.told(softlock_acquire('rose', 'boris', units => 5, capacity => 10));
SELECT pg_temp.told(softlock_acquire('rose', 'clara', units => 3, capacity => 10));
SELECT pg_temp.told(softlock_acquire('rose', 'anna', units => 5, capacity => 10));
SELECT pg_temp.told(softlock_acquire('rose', 'anna', units => 6, capacity => 10));
SELECT pg_temp.told(softlock_acquire('rose', 'anna', units => 4, capacity => 10));
-- A smaller stock: who asks for no more keeps what there is.
SELECT pg_temp.told(softlock_acquire('rose', 'anna', units => 4, capacity => 6));
SELECT pg_temp.told(softlock_acquire('rose', 'anna', units => 5, capacity => 6));
-- The whole of it, beside others' units.
SELECT pg_temp.told(softlock_acquire('rose', 'clara'));
SELECT resource, is_locked, locked_by_me, owner, units FROM softlock_status('{rose,free}', 'anna');
SELECT resource, is_locked, locked_by_me, owner, units FROM softlock_status('{rose}', 'clara');
SELECT owner, units FROM softlock_active WHERE resource = 'rose' ORDER BY owner;
SELECT pg_temp.told(softlock_renew('rose', 'anna')), pg_temp.told(softlock_renew('rose', 'clara'));
SELECT softlock_consume('{rose}', 'boris');
SELECT pg_temp.told(softlock_acquire('rose', 'clara', units => 7, capacity => 10));
SELECT pg_temp.told(softlock_acquire('rose', 'clara'));
SELECT pg_temp.told(softlock_release('rose', 'clara')), pg_temp.told(softlock_release('rose', 'anna'));
SELECT units FROM softlock_status('{rose}');
-- Sums near 2^31.
SELECT pg_temp.told(softlock_acquire('big', 'anna', units => 2147483647, capacity => 2147483647));
SELECT pg_temp.told(softlock_acquire('big', 'boris', units => 2147483647, capacity => 2147483647));
SELECT pg_temp.told(softlock_acquire('big', 'anna', units => 2147483646, capacity => 2147483647));
SELECT pg_temp.told(softlock_acquire('big', 'boris', capacity => 2147483647));
SELECT units FROM softlock_status('{big}');
SELECT pg_temp.told(softlock_break('big', 'closing time'));
SELECT pg_temp.told(softlock_break('big'));
-- An exclusive hold beside units.
SELECT pg_temp.told(softlock_acquire('one', 'anna'));
SELECT pg_temp.told(softlock_acquire('one', 'boris', capacity => 3));
SELECT pg_temp.told(softlock_acquire('one', 'anna', units => 2, capacity => 3));
SELECT pg_temp.told(softlock_acquire('one', 'clara', capacity => 3));
-- A cart of units.
SELECT pg_temp.told(softlock_acquire_many('{b,a,b}', 'anna', units => '{2,1,2}', capacities => '{5,1,5}'));
SELECT pg_temp.told(softlock_acquire_many('{c,b}', 'boris', units => '{1,4}', capacities => '{1,5}'));
SELECT pg_temp.raises($$softlock_acquire_many('{a,b}', 'anna', units => '{1}')$$);
SELECT pg_temp.raises($$softlock_acquire_many('{a,b}', 'anna', units => '{1,0}')$$);
SELECT pg_temp.raises($$softlock_acquire_many('{a,b}', 'anna', units => '{1,NULL}')$$);
SELECT pg_temp.raises($$softlock_acquire_many('{a,a}', 'anna', capacities => '{3,4}')$$);

-- any of several
SELECT softlock_break_all(older_than => '0')->>'broken_count';
SELECT pg_temp.told(softlock_acquire('s2', 'boris'));
SELECT pg_temp.told(softlock_acquire_any('{s3,s2,s1}', 'anna'));
SELECT pg_temp.told(softlock_acquire_any('{s3,s2,s1}', 'anna', 2));
SELECT pg_temp.told(softlock_acquire_any('{s3,s2,s1}', 'anna', 3));
SELECT pg_temp.told(softlock_acquire_any('{s2,s2}', 'clara'));
SELECT pg_temp.raises($$softlock_acquire_any('{s}', 'anna', 0)$$);
SELECT pg_temp.raises($$softlock_acquire_any('{s}', 'anna', NULL)$$);
SELECT pg_temp.raises($$softlock_acquire_any(NULL, 'anna')$$);
SELECT pg_temp.told(softlock_acquire_any('{}', 'anna'));

-- a whole cart
SELECT softlock_break_all(older_than => '0')->>'broken_count';
SELECT softlock_acquire_many('{a,b}', 'guest', '1 min', 'cart', '{"till": 1}')->>'acquired';
SELECT softlock_acquire('c', 'guest', '1 min')->>'acquired';
SELECT pg_temp.told(softlock_renew_all('guest', 'cart', '10 min'));
SELECT resource, remaining > '5 min' AS prolonged, metadata FROM softlock_active ORDER BY resource;
SELECT pg_temp.told(softlock_renew_all('nobody'));
SELECT pg_temp.raises($$softlock_renew_all('guest', ttl => '2 days')$$);
SELECT pg_temp.raises($$softlock_renew_all(NULL)$$);
SELECT pg_temp.told(softlock_transfer('{a,x,c}', 'guest', 'anna'));
SELECT pg_temp.told(softlock_transfer('{b,a}', 'guest', 'anna', tokens => '{1,2}'));
SELECT pg_temp.told(softlock_transfer(NULL, 'guest', 'anna', 'cart'));
SELECT resource, owner, session, metadata FROM softlock_active ORDER BY resource;
SELECT pg_temp.told(softlock_transfer('{c}', 'guest', 'anna'));
SELECT pg_temp.told(softlock_transfer('{}', 'guest', 'anna')), pg_temp.told(softlock_transfer(NULL, 'guest', 'anna'));
SELECT pg_temp.raises($$softlock_transfer('{c}', 'anna', NULL)$$);
SELECT pg_temp.raises($$softlock_transfer(NULL, 'anna', 'boris', tokens => '{1}')$$);
SELECT pg_temp.raises($$softlock_transfer('{c}', 'anna', '')$$);
-- Units go over into what the new owner has of them.
SELECT softlock_acquire('rose', o, units => n, capacity => 10)->>'outcome' FROM (VALUES ('guest', 2), ('anna', 3), ('boris', 5)) AS v (o, n);
SELECT pg_temp.told(softlock_transfer('{rose}', 'guest', 'anna'));
SELECT pg_temp.told(softlock_transfer('{rose}', 'boris', 'clara'));
SELECT owner, units FROM softlock_active WHERE resource = 'rose' ORDER BY owner;
SELECT pg_temp.told(softlock_acquire('rose', 'dora', capacity => 10));
SELECT pg_temp.told(softlock_acquire('rose', 'dora', capacity => 11));
SELECT pg_temp.raises($$softlock_break_all()$$);
SELECT pg_temp.raises($$softlock_break_all(reason => 'closing time')$$);
SELECT pg_temp.raises($$softlock_break_all(older_than => '-1 s')$$);
SELECT pg_temp.raises($$softlock_break_all(prefix => '')$$);
SELECT softlock_break_all(owner => 'anna', prefix => 'r')->>'broken_count';
SELECT softlock_break_all(session => 'cart')->'locks'->1->>'resource';
SELECT softlock_break_all(owner => 'clara', older_than => '1 day');

-- limits by kind
INSERT INTO softlock.policies VALUES ('', NULL, NULL, NULL, NULL), ('kit', '1 min', '2 min', '3 min', 2);
INSERT INTO softlock.policies VALUES ('a:b');
INSERT INTO softlock.policies VALUES ('x', '-1 s');
INSERT INTO softlock.policies VALUES ('x', '0');
INSERT INTO softlock.policies VALUES ('x', NULL, '101 years');
INSERT INTO softlock.policies VALUES ('x', NULL, NULL, '-1 day');
INSERT INTO softlock.policies VALUES ('x', '2 min', '1 min');
INSERT INTO softlock.policies VALUES ('x', NULL, NULL, NULL, 0);
INSERT INTO softlock.policies VALUES ('kit');
SELECT pg_temp.told(softlock_acquire('kit:1', 'anna')), pg_temp.told(softlock_acquire('kit:2', 'anna'));
SELECT pg_temp.told(softlock_acquire('kit:3', 'anna')), pg_temp.told(softlock_acquire('kit:1', 'anna')), pg_temp.told(softlock_acquire('other:3', 'anna'));
SELECT pg_temp.told(softlock_acquire_many('{kit:3,kit:4,kit:5}', 'boris'));
SELECT pg_temp.told(softlock_acquire('kit:3', 'boris'));
SELECT pg_temp.told(softlock_transfer('{kit:3}', 'boris', 'anna'));
SELECT resource, expires_at - acquired_at FROM softlock_active WHERE resource LIKE 'kit:%' AND owner = 'boris';
SELECT pg_temp.raises($$softlock_acquire('kit:3', 'boris', '121 s')$$);
SELECT pg_temp.told(softlock_renew('kit:3', 'boris', '2 min'));
UPDATE softlock.policies SET max_hold = '90 s' WHERE kind = 'kit';
SELECT pg_temp.told(softlock_renew('kit:3', 'boris', '2 min'));
SELECT pg_temp.told(softlock_acquire('kit:4', 'boris', '2 min'));
SELECT pg_temp.told(softlock_renew_all('boris', ttl => '2 min'));
SELECT resource, expires_at - acquired_at FROM softlock_active WHERE owner = 'boris' AND resource = 'kit:4';
SET softlock.max_hold = '30 s';
SELECT pg_temp.told(softlock_acquire('other:1', 'dora'));
SELECT expires_at - acquired_at FROM softlock_active WHERE resource = 'other:1';
RESET softlock.max_hold;
-- A default that is longer than allowed.
UPDATE softlock.policies SET default_ttl = '2 days', max_ttl = NULL WHERE kind = 'kit';
SELECT pg_temp.raises($$softlock_acquire('kit:9', 'emma')$$);
DELETE FROM softlock.policies;
SELECT pg_temp.told(softlock_acquire('kit:9', 'emma'));
SELECT expires_at - acquired_at FROM softlock_active WHERE owner = 'emma';
DROP EXTENSION softlock;
