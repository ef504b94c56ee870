-- softlock_guard: a row whose resource somebody else holds is not written.
\set ECHO none
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS softlock CASCADE;
CREATE EXTENSION softlock;
\set ECHO queries
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.raises(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE state text; message text; detail text; hint text;
BEGIN
    EXECUTE statement;
    RETURN 'works';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', state, message,
        nullif(regexp_replace(detail, '\d{4}-.*Z', '(time)'), ''), nullif(hint, ''));
END $$;

CREATE TABLE kits (id serial PRIMARY KEY, product_kit_id integer, note text);
CREATE TRIGGER guard BEFORE UPDATE OR DELETE ON kits FOR EACH ROW
    EXECUTE FUNCTION softlock_guard('kit:', 'product_kit_id');
INSERT INTO kits (product_kit_id) VALUES (42), (43), (NULL);
SELECT softlock_acquire('kit:42', 'anna')->>'outcome';

-- From psql, and as somebody else: refused, with the holder's name. Other rows, and NULL keys, are free.
SELECT pg_temp.raises($$UPDATE kits SET note = 'x' WHERE product_kit_id = 42$$);
SELECT pg_temp.raises($$DELETE FROM kits WHERE product_kit_id = 42$$);
SELECT pg_temp.raises($$UPDATE kits SET note = 'x'$$);
SELECT pg_temp.raises($$UPDATE kits SET note = 'x' WHERE product_kit_id IS DISTINCT FROM 42$$);
SET softlock.owner = 'boris';
SELECT pg_temp.raises($$UPDATE kits SET note = 'x' WHERE product_kit_id = 42$$);
RESET softlock.owner;

-- As the holder: it passes, for this transaction only.
BEGIN;
SET LOCAL softlock.owner = 'anna';
UPDATE kits SET note = 'anna' WHERE product_kit_id = 42;
COMMIT;
SELECT pg_temp.raises($$UPDATE kits SET note = 'x' WHERE product_kit_id = 42$$);
SELECT product_kit_id, note FROM kits ORDER BY id;

-- The name alone is not enough in a role that is not the holder's.
CREATE ROLE softlock_other;
GRANT ALL ON kits TO softlock_other;
\set VERBOSITY terse
BEGIN;
SET LOCAL ROLE softlock_other;
SET LOCAL softlock.owner = 'anna';
UPDATE kits SET note = 'x' WHERE product_kit_id = 42;
ROLLBACK;
DROP OWNED BY softlock_other;
DROP ROLE softlock_other;

-- Released, and lapsed: free.
SELECT softlock_release('kit:42', 'anna')->>'outcome';
SELECT pg_temp.raises($$UPDATE kits SET note = 'free' WHERE product_kit_id = 42$$);
SELECT softlock_acquire('kit:42', 'anna', '1 us')->>'outcome';
SELECT pg_temp.raises($$UPDATE kits SET note = 'free' WHERE product_kit_id = 42$$);

-- In one sale: write as the holder, consume.
SELECT softlock_acquire('kit:42', 'anna')->>'outcome';
BEGIN;
SET LOCAL softlock.owner = 'anna';
UPDATE kits SET note = 'sold' WHERE product_kit_id = 42;
SELECT softlock_consume(ARRAY['kit:42'], 'anna');
COMMIT;

-- 'require': no write without a lock.
CREATE TRIGGER guard_require BEFORE UPDATE OR DELETE ON kits FOR EACH ROW
    EXECUTE FUNCTION softlock_guard('kit:', 'product_kit_id', 'require');
SELECT pg_temp.raises($$UPDATE kits SET note = 'x' WHERE product_kit_id = 43$$);
SELECT pg_temp.raises($$UPDATE kits SET note = 'x' WHERE product_kit_id IS NULL$$);
SELECT softlock_acquire('kit:43', 'boris')->>'outcome';
SET softlock.owner = 'boris';
SELECT pg_temp.raises($$UPDATE kits SET note = 'x' WHERE product_kit_id = 43$$);
SELECT pg_temp.raises($$DELETE FROM kits WHERE product_kit_id = 43$$);
RESET softlock.owner;
DROP TABLE kits;

-- Keys of other types, and partitions.
CREATE TABLE things (big bigint, id uuid, name text, PRIMARY KEY (big)) PARTITION BY RANGE (big);
CREATE TABLE things_1 PARTITION OF things FOR VALUES FROM (0) TO (10000000000000);
CREATE TABLE things_2 (name text, dropped int, id uuid, big bigint NOT NULL);
ALTER TABLE things_2 DROP COLUMN dropped;
ALTER TABLE things ATTACH PARTITION things_2 FOR VALUES FROM (10000000000000) TO (MAXVALUE);
CREATE TRIGGER guard_big BEFORE UPDATE OR DELETE ON things FOR EACH ROW EXECUTE FUNCTION softlock_guard('big:', 'big');
CREATE TRIGGER guard_id BEFORE UPDATE OR DELETE ON things FOR EACH ROW EXECUTE FUNCTION softlock_guard('id:', 'id');
CREATE TRIGGER guard_name BEFORE UPDATE OR DELETE ON things FOR EACH ROW EXECUTE FUNCTION softlock_guard('', 'name');
INSERT INTO things VALUES (9999999999999, '6f1b4b1c-3b1a-4d5e-9a55-1f2e3d4c5b6a', 'rose'), (99999999999999, NULL, 'lily');
SELECT softlock_acquire('big:9999999999999', 'anna')->>'outcome';
SELECT pg_temp.raises($$UPDATE things SET name = 'x' WHERE name = 'rose'$$);
SELECT softlock_release_all('anna')->>'released_count';
SELECT softlock_acquire('id:6f1b4b1c-3b1a-4d5e-9a55-1f2e3d4c5b6a', 'anna')->>'outcome';
SELECT pg_temp.raises($$DELETE FROM things WHERE name = 'rose'$$);
SELECT softlock_release_all('anna')->>'released_count';
SELECT softlock_acquire('lily', 'anna')->>'outcome';
SELECT pg_temp.raises($$DELETE FROM things$$);
SELECT pg_temp.raises($$DELETE FROM things WHERE name = 'rose'$$);
DROP TABLE things;

-- Declared wrongly: an error at the first firing that says how to do it.
CREATE TABLE t (id int, note text);
CREATE FUNCTION pg_temp.declared(declaration text, statement text DEFAULT 'UPDATE t SET id = 2') RETURNS text LANGUAGE plpgsql AS $$
DECLARE answer text;
BEGIN
    TRUNCATE t;
    INSERT INTO t VALUES (1);
    EXECUTE 'CREATE TRIGGER wrong ' || declaration;
    answer := pg_temp.raises(statement);
    DROP TRIGGER wrong ON t;
    RETURN answer;
END $$;
SELECT pg_temp.declared($$BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION softlock_guard()$$);
SELECT pg_temp.declared($$BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION softlock_guard('t:')$$);
SELECT pg_temp.declared($$BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION softlock_guard('t:', 'nope')$$);
SELECT pg_temp.declared($$BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION softlock_guard('t:', 'ctid')$$);
SELECT pg_temp.declared($$BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION softlock_guard('t:', 'id', 'required')$$);
SELECT pg_temp.declared($$BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION softlock_guard('t:', 'id', 'require', 'x')$$);
SELECT pg_temp.declared($$BEFORE UPDATE ON t FOR EACH STATEMENT EXECUTE FUNCTION softlock_guard('t:', 'id')$$);
SELECT pg_temp.declared($$AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION softlock_guard('t:', 'id')$$);
SELECT pg_temp.declared($$BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION softlock_guard('t:', 'id')$$, 'INSERT INTO t VALUES (3)');
SELECT pg_temp.declared($$BEFORE TRUNCATE ON t FOR EACH STATEMENT EXECUTE FUNCTION softlock_guard('t:', 'id')$$, 'TRUNCATE t');
SELECT pg_temp.declared($$BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION softlock_guard('t:', 'id')$$);
DROP TABLE t;
DROP EXTENSION softlock;
