-- The key of softlock_guard: its text is that of column::text, for types whose text no setting changes;
-- others are refused at the first firing.
\set ECHO none
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS softlock CASCADE;
CREATE EXTENSION softlock;
-- What an INSERT, UPDATE or DELETE of the one row does, as somebody else, while 'k:' || key is held.
CREATE FUNCTION pg_temp.written(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE detail text; hint text;
BEGIN
    EXECUTE statement;
    RETURN 'written';
EXCEPTION
    WHEN SQLSTATE 'SL002' THEN RETURN SQLERRM;
    WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
        RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''), nullif(hint, ''));
END $$;
-- A table with a key of this type and value: what is said to each kind of write while its text is held,
-- under settings that change how much is written; and after it is free again.
CREATE FUNCTION pg_temp.key(type text, value text, definition text DEFAULT '') RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE name text; said text[];
BEGIN
    EXECUTE format('CREATE TABLE t (n int, k %s %s)', type, definition);
    EXECUTE format('INSERT INTO t (n, k) VALUES (1, %s)', value);
    EXECUTE $x$SELECT 'k:' || k::text FROM t$x$ INTO name;
    CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION softlock_guard('k:', 'k');
    PERFORM softlock_acquire(name, 'anna');
    SET LOCAL extra_float_digits = 0;
    SET LOCAL bytea_output = 'escape';
    SET LOCAL DateStyle = 'German';
    SET LOCAL IntervalStyle = 'iso_8601';
    SET LOCAL TimeZone = 'Asia/Tokyo';
    said := ARRAY[pg_temp.written('UPDATE t SET n = 2'), pg_temp.written('DELETE FROM t'),
                  pg_temp.written(format('INSERT INTO t (n, k) VALUES (1, %s)', value))];
    PERFORM softlock_release(name, 'anna');
    said := said || pg_temp.written('UPDATE t SET n = 2');
    DROP TABLE t;
    IF (SELECT count(DISTINCT s) FROM unnest(said[1:3]) AS s) = 1 THEN
        RETURN NEXT type || ': ' || said[1] || CASE said[4] WHEN said[1] THEN '' ELSE ', then ' || said[4] END;
    ELSE
        RETURN NEXT type || ': ' || said::text;
    END IF;
END $$;
\set ECHO queries
\pset format unaligned
\pset tuples_only on

-- Types that work.
SELECT pg_temp.key('text', $$'a "b" é'$$);
SELECT pg_temp.key('varchar(5)', $$'ab'$$);
SELECT pg_temp.key('char(8)', $$'A12'$$);
SELECT pg_temp.key('char(8)', $$' '$$);
SELECT pg_temp.key('name', $$'rose'$$);
SELECT pg_temp.key('smallint', '-7');
SELECT pg_temp.key('integer', '2147483647');
SELECT pg_temp.key('bigint', '9223372036854775807');
SELECT pg_temp.key('oid', '4294967295');
SELECT pg_temp.key('numeric', '12345678901234567890.50');
SELECT pg_temp.key('numeric(6,2)', '1.5');
SELECT pg_temp.key('numeric', $$'NaN'$$);
SELECT pg_temp.key('uuid', $$'6F1B4B1C-3B1A-4D5E-9A55-1F2E3D4C5B6A'$$);
SELECT pg_temp.key('boolean', 'true');
SELECT pg_temp.key('boolean', 'false');
CREATE TYPE flower AS ENUM ('rose', 'lily of the valley');
SELECT pg_temp.key('flower', $$'lily of the valley'$$);
CREATE DOMAIN code AS text CHECK (value <> '');
CREATE DOMAIN short_code AS code;
CREATE DOMAIN yes AS boolean;
CREATE DOMAIN seat AS char(4);
SELECT pg_temp.key('code', $$'x'$$);
SELECT pg_temp.key('short_code', $$'x'$$);
SELECT pg_temp.key('yes', 'true');
SELECT pg_temp.key('seat', $$'A1'$$);
-- A long one is detoasted; one that is too long to be held is free.
SELECT pg_temp.key('text', $$repeat('x', 1000)$$) = 'text: "k:' || repeat('x', 1000) || '" is held by "anna", then written';
CREATE TABLE long (k text);
INSERT INTO long VALUES (repeat('x', 1000000)), ('');
CREATE TRIGGER guard BEFORE UPDATE OR DELETE ON long FOR EACH ROW EXECUTE FUNCTION softlock_guard('k:', 'k');
SELECT pg_temp.written('UPDATE long SET k = k');
DROP TRIGGER guard ON long;
CREATE TRIGGER guard BEFORE UPDATE OR DELETE ON long FOR EACH ROW EXECUTE FUNCTION softlock_guard('', 'k');
SELECT pg_temp.written('UPDATE long SET k = k');
DROP TRIGGER guard ON long;
CREATE TRIGGER guard BEFORE UPDATE OR DELETE ON long FOR EACH ROW EXECUTE FUNCTION softlock_guard('', 'k', 'require');
SELECT pg_temp.written($$UPDATE long SET k = k WHERE k = ''$$);
DROP TABLE long;

-- A column that was added with a default, which the rows of before do not have.
CREATE TABLE older (n int);
INSERT INTO older VALUES (1), (2);
ALTER TABLE older ADD k int DEFAULT 42;
CREATE TRIGGER guard BEFORE UPDATE OR DELETE ON older FOR EACH ROW EXECUTE FUNCTION softlock_guard('k:', 'k');
SELECT softlock_acquire('k:42', 'anna')->>'outcome';
SELECT pg_temp.written('UPDATE older SET n = 3 WHERE n = 1'), pg_temp.written('DELETE FROM older WHERE n = 2');
SELECT softlock_release('k:42', 'anna')->>'outcome';
SELECT pg_temp.written('UPDATE older SET n = 3 WHERE n = 1');
DROP TABLE older;

-- Types whose text depends on the session, or on who asks.
SELECT pg_temp.key('timestamptz', $$'2026-12-01 10:00+00'$$);
SELECT pg_temp.key('timestamp', $$'2026-12-01 10:00'$$);
SELECT pg_temp.key('date', $$'2026-12-01'$$);
SELECT pg_temp.key('time', $$'10:00'$$);
SELECT pg_temp.key('interval', $$'1 day 2 hours'$$);
SELECT pg_temp.key('real', '0.1');
SELECT pg_temp.key('double precision', '0.1');
SELECT pg_temp.key('money', $$'1.50'$$);
SELECT pg_temp.key('bytea', $$'abc'$$);
SELECT pg_temp.key('json', $$'1'$$);
SELECT pg_temp.key('jsonb', $$'1'$$);
SELECT pg_temp.key('regclass', $$'pg_class'$$);
SELECT pg_temp.key('regrole', $$'postgres'$$);
SELECT pg_temp.key('point', $$'(1,2)'$$);
SELECT pg_temp.key('inet', $$'10.0.0.1'$$);
SELECT pg_temp.key('integer[]', $$'{1}'$$);
SELECT pg_temp.key('int4range', $$'[1,2)'$$);
SELECT pg_temp.key('"char"', $$'x'$$);
CREATE TYPE pair AS (a int, b int);
SELECT pg_temp.key('pair', $$'(1,2)'$$);
CREATE DOMAIN moment AS timestamptz;
SELECT pg_temp.key('moment', $$'2026-12-01 10:00+00'$$);
-- A base type of an extension's, made as citext is: nobody knows what its output depends on.
CREATE TYPE shouted;
CREATE FUNCTION shouted_in(cstring) RETURNS shouted LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION shouted_out(shouted) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE shouted (INPUT = shouted_in, OUTPUT = shouted_out, LIKE = text);
SELECT pg_temp.key('shouted', $$'Rose'$$);

-- A stored generated column has the key's text: as it was, and as it is about to be.
CREATE TABLE slots (shelf int, box int, note text, key text GENERATED ALWAYS AS (shelf::text || '/' || box::text) STORED);
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON slots FOR EACH ROW EXECUTE FUNCTION softlock_guard('slot:', 'key');
INSERT INTO slots VALUES (1, 1), (1, 2), (2, NULL);
SELECT softlock_acquire_many('{slot:1/1,slot:3/3}', 'anna')->'acquired';
SELECT pg_temp.written('INSERT INTO slots VALUES (3, 3)');
SELECT pg_temp.written('INSERT INTO slots VALUES (3, 4)');
SELECT pg_temp.written('INSERT INTO slots VALUES (3, NULL)');
SELECT pg_temp.written($$UPDATE slots SET note = 'x' WHERE key = '1/1'$$);
SELECT pg_temp.written($$UPDATE slots SET note = 'x' WHERE key = '1/2'$$);
SELECT pg_temp.written($$UPDATE slots SET shelf = 3, box = 3 WHERE key = '1/2'$$);
SELECT pg_temp.written($$UPDATE slots SET box = 3 WHERE shelf = 3 AND box IS NULL$$);
SELECT pg_temp.written($$UPDATE slots SET box = NULL WHERE key = '1/1'$$);
SELECT pg_temp.written($$DELETE FROM slots WHERE key = '1/1'$$);
SELECT pg_temp.written($$DELETE FROM slots WHERE key IS NULL OR key = '3/4'$$);
SET softlock.owner = 'anna';
SELECT pg_temp.written($$UPDATE slots SET shelf = 3, box = 3 WHERE key = '1/1'$$);
RESET softlock.owner;
SELECT key, note FROM slots ORDER BY key;
DROP TABLE slots;
-- Of an expression that raises an error, the write says so.
CREATE TABLE slots (n int, key int GENERATED ALWAYS AS (1 / n) STORED);
CREATE TRIGGER guard BEFORE INSERT ON slots FOR EACH ROW EXECUTE FUNCTION softlock_guard('slot:', 'key');
SELECT pg_temp.written('INSERT INTO slots VALUES (0)'), pg_temp.written('INSERT INTO slots VALUES (1)');
DROP TABLE slots;
-- A virtual one, from PostgreSQL 18 on, is no part of the row: refused. (Before, the table can't be made.)
CREATE FUNCTION pg_temp.virtual() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('server_version_num')::int < 180000 THEN
        RETURN 'refused';
    END IF;
    RETURN (SELECT CASE WHEN said LIKE 'text: 39P01 | softlock_guard can''t take column "k" for a key | %' THEN 'refused' ELSE said END
            FROM pg_temp.key('text', 'DEFAULT', 'GENERATED ALWAYS AS (n::text) VIRTUAL') AS said);
END $$;
SELECT pg_temp.virtual();

-- A key that is NULL is nobody's, also with 'require'.
CREATE TABLE nulls (k int, note text);
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON nulls FOR EACH ROW EXECUTE FUNCTION softlock_guard('k:', 'k');
CREATE TRIGGER guard_require BEFORE INSERT OR UPDATE OR DELETE ON nulls FOR EACH ROW EXECUTE FUNCTION softlock_guard('k:', 'k', 'require');
SELECT pg_temp.written('INSERT INTO nulls VALUES (NULL)'), pg_temp.written($$UPDATE nulls SET note = 'x'$$), pg_temp.written('DELETE FROM nulls');
DROP TABLE nulls;

-- Partitions, whose columns may be in another order; and a row that moves from one to another.
CREATE TABLE things (big bigint, id uuid, name text, PRIMARY KEY (big)) PARTITION BY RANGE (big);
CREATE TABLE things_1 PARTITION OF things FOR VALUES FROM (0) TO (10000000000000);
CREATE TABLE things_2 (name text, dropped int, id uuid, big bigint NOT NULL);
ALTER TABLE things_2 DROP COLUMN dropped;
ALTER TABLE things ATTACH PARTITION things_2 FOR VALUES FROM (10000000000000) TO (MAXVALUE);
CREATE TRIGGER guard_big BEFORE INSERT OR UPDATE OR DELETE ON things FOR EACH ROW EXECUTE FUNCTION softlock_guard('big:', 'big');
CREATE TRIGGER guard_id BEFORE INSERT OR UPDATE OR DELETE ON things FOR EACH ROW EXECUTE FUNCTION softlock_guard('id:', 'id');
CREATE TRIGGER guard_name BEFORE INSERT OR UPDATE OR DELETE ON things FOR EACH ROW EXECUTE FUNCTION softlock_guard('', 'name');
INSERT INTO things VALUES (9999999999999, '6f1b4b1c-3b1a-4d5e-9a55-1f2e3d4c5b6a', 'rose'), (99999999999999, NULL, 'lily');
SELECT softlock_acquire('big:9999999999999', 'anna')->>'outcome';
SELECT pg_temp.written($$UPDATE things SET name = 'x' WHERE name = 'rose'$$);
SELECT pg_temp.written($$UPDATE things SET big = 9999999999999 WHERE name = 'lily'$$);
SELECT softlock_release_all('anna')->>'released_count';
SELECT softlock_acquire('id:6f1b4b1c-3b1a-4d5e-9a55-1f2e3d4c5b6a', 'anna')->>'outcome';
SELECT pg_temp.written($$DELETE FROM things WHERE name = 'rose'$$);
SELECT pg_temp.written($$UPDATE things SET big = 20000000000000 WHERE name = 'rose'$$);
SELECT softlock_release_all('anna')->>'released_count';
SELECT softlock_acquire_many('{lily,big:5}', 'anna')->'acquired';
SELECT pg_temp.written($$DELETE FROM things$$);
SELECT pg_temp.written($$UPDATE things SET big = 5 WHERE name = 'rose'$$);
SELECT pg_temp.written($$INSERT INTO things VALUES (5, NULL, NULL)$$);
SELECT pg_temp.written($$INSERT INTO things VALUES (6, NULL, 'lily')$$);
SELECT pg_temp.written($$UPDATE things SET big = 30000000000000 WHERE name = 'rose'$$);
SELECT pg_temp.written($$DELETE FROM things WHERE name = 'rose'$$);
SELECT tableoid::regclass, big, name FROM things;
\set ECHO none
DROP TABLE things;
DROP TYPE flower;
DROP DOMAIN short_code, code, yes, seat, moment;
DROP TYPE pair;
DROP TYPE shouted CASCADE;
DROP EXTENSION softlock;
