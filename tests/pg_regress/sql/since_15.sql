-- What PostgreSQL has from 15 on: MERGE, and prefixes of settings that are reserved.
\set ECHO none
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS softlock CASCADE;
CREATE EXTENSION softlock;
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
\set ECHO queries

-- The guard.
CREATE TABLE kits (id serial PRIMARY KEY, product_kit_id integer);
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON kits FOR EACH ROW
    EXECUTE FUNCTION softlock_guard('kit:', 'product_kit_id');
INSERT INTO kits (product_kit_id) VALUES (1), (2);
SELECT softlock_acquire_many('{kit:1,kit:3}', 'anna')->'acquired';
SELECT pg_temp.raises($$MERGE INTO kits USING (VALUES (1)) AS v(kit) ON product_kit_id = kit WHEN MATCHED THEN DELETE$$);
SELECT pg_temp.raises($$MERGE INTO kits USING (VALUES (3)) AS v(kit) ON product_kit_id = kit WHEN NOT MATCHED THEN INSERT (product_kit_id) VALUES (kit)$$);
DROP TABLE kits;

SET softlock.no_such_setting = 1;
