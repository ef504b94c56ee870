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

-- The key that a row is to have counts as much as the one that it has: a row is neither put nor moved
-- onto a key that is held, nor taken from one.
CREATE TABLE kits (id serial PRIMARY KEY, product_kit_id integer, note text);
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON kits FOR EACH ROW
    EXECUTE FUNCTION softlock_guard('kit:', 'product_kit_id');
INSERT INTO kits (product_kit_id) VALUES (1), (2), (NULL);
SELECT softlock_acquire_many('{kit:1,kit:3}', 'anna')->'acquired';
SELECT pg_temp.raises($$INSERT INTO kits (product_kit_id) VALUES (3)$$);
SELECT pg_temp.raises($$INSERT INTO kits (product_kit_id) VALUES (2), (3)$$);
SELECT pg_temp.raises($$UPDATE kits SET product_kit_id = 3 WHERE product_kit_id = 2$$);
SELECT pg_temp.raises($$UPDATE kits SET product_kit_id = 3 WHERE product_kit_id IS NULL$$);
SELECT pg_temp.raises($$UPDATE kits SET product_kit_id = 2 WHERE product_kit_id = 1$$);
SELECT pg_temp.raises($$UPDATE kits SET product_kit_id = NULL WHERE product_kit_id = 1$$);
SELECT pg_temp.raises($$INSERT INTO kits (id, product_kit_id) VALUES (2, 9) ON CONFLICT (id) DO UPDATE SET product_kit_id = 3$$);
COPY kits (product_kit_id) FROM stdin;
4
3
\.
SELECT pg_temp.raises($$INSERT INTO kits (product_kit_id) VALUES (4), (NULL)$$);
SELECT pg_temp.raises($$UPDATE kits SET product_kit_id = 5 WHERE product_kit_id = 4$$);
-- Whoever else holds one of the two; both have to be the holder's with 'require'.
SELECT softlock_acquire('kit:2', 'boris')->>'outcome';
SET softlock.owner = 'anna';
SELECT pg_temp.raises($$UPDATE kits SET product_kit_id = 2 WHERE product_kit_id = 1$$);
SELECT pg_temp.raises($$UPDATE kits SET product_kit_id = 3 WHERE product_kit_id = 1$$);
SELECT product_kit_id FROM kits ORDER BY id;
DROP TRIGGER guard ON kits;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON kits FOR EACH ROW
    EXECUTE FUNCTION softlock_guard('kit:', 'product_kit_id', 'require');
SELECT pg_temp.raises($$UPDATE kits SET product_kit_id = 6 WHERE product_kit_id = 3$$);
SELECT pg_temp.raises($$UPDATE kits SET product_kit_id = 1 WHERE product_kit_id = 3$$);
SELECT pg_temp.raises($$INSERT INTO kits (product_kit_id) VALUES (7)$$);
SELECT pg_temp.raises($$INSERT INTO kits (product_kit_id) VALUES (3)$$);
-- A lock that has lapsed is none.
SELECT softlock_acquire('kit:8', 'anna', '1 us')->>'outcome';
SELECT pg_temp.raises($$INSERT INTO kits (product_kit_id) VALUES (8)$$);
RESET softlock.owner;
-- In a transaction that can't write, and by a role without any privilege on softlock's table, what is
-- free is written, and what is held refused, all the same.
DROP TRIGGER guard ON kits;
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON kits FOR EACH ROW
    EXECUTE FUNCTION softlock_guard('kit:', 'product_kit_id');
CREATE TEMP TABLE draft AS TABLE kits;
CREATE TRIGGER guard BEFORE UPDATE ON draft FOR EACH ROW EXECUTE FUNCTION softlock_guard('kit:', 'product_kit_id');
BEGIN READ ONLY;
SELECT pg_temp.raises($$UPDATE draft SET note = 'free' WHERE product_kit_id = 5$$);
SELECT pg_temp.raises($$UPDATE draft SET note = 'free' WHERE product_kit_id = 1$$);
COMMIT;

-- What is free costs no row lock and no transaction id but the write's own, however many rows there are;
-- what is held by the writer is locked, so that nobody can end it.
CREATE TABLE many AS SELECT i AS product_kit_id, NULL AS note FROM generate_series(1000, 1999) AS i;
CREATE TRIGGER guard BEFORE UPDATE ON many FOR EACH ROW EXECUTE FUNCTION softlock_guard('kit:', 'product_kit_id');
BEGIN;
UPDATE many SET note = 'x';
SELECT relation::regclass, mode FROM pg_locks WHERE pid = pg_backend_pid() AND locktype <> 'virtualxid' AND relation IS DISTINCT FROM 'pg_locks'::regclass
    AND relation::regclass::text NOT LIKE '%many%' ORDER BY relation::regclass::text;
SELECT count(*) FROM softlock.locks WHERE xmax::text::bigint = pg_current_xact_id()::text::bigint % (2::bigint ^ 32)::bigint;
ROLLBACK;
DROP TABLE kits, draft, many;
SELECT softlock_release_all('anna')->>'released_count', softlock_release_all('boris')->>'released_count';

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
CREATE VIEW v AS TABLE t;
CREATE TRIGGER wrong INSTEAD OF UPDATE ON v FOR EACH ROW EXECUTE FUNCTION softlock_guard('t:', 'id');
SELECT pg_temp.raises('UPDATE v SET id = 2');
DROP TABLE t CASCADE;
DROP EXTENSION softlock;
