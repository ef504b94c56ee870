-- Where it is installed: functions and views where CREATE EXTENSION says, tables in the schema softlock.
\set ECHO none
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS softlock CASCADE;
DROP SCHEMA IF EXISTS softlock;
CREATE ROLE softlock_eve;
CREATE ROLE "Softlock-Admin" SUPERUSER;
-- Where what is; and whether it works from anywhere.
CREATE FUNCTION pg_temp.places() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(n.nspname || ': ' || n.objects, '; ' ORDER BY n.nspname) FROM (
        SELECT n.nspname, string_agg(o.name, ' ' ORDER BY o.name) AS objects FROM (
            SELECT relname AS name, relnamespace AS schema FROM pg_class WHERE relkind IN ('r', 'v', 'S') AND (relname IN ('softlock_active', 'softlock_history') OR relnamespace = to_regnamespace('softlock'))
            UNION ALL SELECT proname || '()', pronamespace FROM pg_proc WHERE proname IN ('softlock_acquire', 'softlock_status', 'softlock_pending', 'pending', 'softlock_guard')
        ) AS o(name, schema) JOIN pg_namespace AS n ON n.oid = o.schema GROUP BY 1) AS n
$$;
CREATE FUNCTION pg_temp.works(schema text) RETURNS text LANGUAGE plpgsql SET search_path = '' AS $$
DECLARE said text[]; answer text;
BEGIN
    FOREACH answer IN ARRAY ARRAY[$c$softlock_acquire('k', 'anna')->>'outcome'$c$, $c$softlock_acquire('k', 'boris')->>'outcome'$c$,
        $c$softlock_acquire_many('{l}', 'anna')->>'acquired'$c$, $c$softlock_renew('k', 'anna')->>'outcome'$c$,
        $c$softlock_consume('{l}', 'anna')->>'consumed_count'$c$, $c$softlock_release_all('anna')->>'released_count'$c$,
        $c$softlock_sweep()->>'released_count'$c$, $c$softlock_break('k')->>'outcome'$c$]
    LOOP
        EXECUTE format('SELECT %I.%s', schema, answer) INTO answer;
        said := said || answer;
    END LOOP;
    EXECUTE format('SELECT count(*) FROM %1$I.softlock_active, %1$I.softlock_status(''{k}''), %1$I.softlock_pending()', schema) INTO answer;
    RETURN said || answer;
END $$;
\set ECHO queries
\pset format unaligned
\pset tuples_only on
CREATE FUNCTION pg_temp.raises(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE detail text; hint text;
BEGIN
    EXECUTE statement;
    RETURN 'works';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(' | ', SQLSTATE, SQLERRM, nullif(detail, ''), nullif(hint, ''));
END $$;

-- Into the current schema; dropped and created again in the same session.
CREATE EXTENSION softlock;
SELECT pg_temp.places();
SELECT pg_temp.works('public');
DROP EXTENSION softlock;
SELECT count(*) FROM pg_namespace WHERE nspname = 'softlock';
CREATE EXTENSION softlock;
SELECT pg_temp.works('public');
DROP EXTENSION softlock;

-- Into a schema of the installer's choice, whatever it is called.
CREATE SCHEMA ext;
CREATE EXTENSION softlock SCHEMA ext;
SELECT pg_temp.places();
SELECT pg_temp.works('ext');
SELECT pg_temp.raises('ALTER EXTENSION softlock SET SCHEMA public');
DROP EXTENSION softlock;
CREATE SCHEMA "Odd schema";
CREATE EXTENSION softlock SCHEMA "Odd schema";
SELECT pg_temp.works('Odd schema');
DROP EXTENSION softlock;
DROP SCHEMA ext, "Odd schema";

-- Into the schema of the tables, which the installer has made; it stays the installer's.
CREATE SCHEMA softlock;
CREATE EXTENSION softlock SCHEMA softlock;
SELECT pg_temp.places();
SELECT pg_temp.works('softlock');
DROP EXTENSION softlock;
SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'softlock';
-- The schema may be there though the functions go elsewhere.
CREATE EXTENSION softlock;
SELECT pg_temp.places();
SELECT pg_temp.works('public');
DROP EXTENSION softlock;
DROP SCHEMA softlock;
SET ROLE "Softlock-Admin";
CREATE SCHEMA softlock;
CREATE EXTENSION softlock SCHEMA softlock;
RESET ROLE;
SELECT pg_temp.works('softlock');
DROP EXTENSION softlock;

-- Not into somebody else's.
SELECT pg_temp.raises('CREATE EXTENSION softlock');
DROP SCHEMA softlock;
CREATE SCHEMA softlock AUTHORIZATION softlock_eve;
SELECT pg_temp.raises('CREATE EXTENSION softlock');
SELECT pg_temp.raises('CREATE EXTENSION softlock SCHEMA softlock');
SELECT count(*) FROM pg_extension WHERE extname = 'softlock';
DROP SCHEMA softlock;
-- Nor over an application's own tables.
CREATE SCHEMA softlock CREATE TABLE locks (id int);
SELECT pg_temp.raises('CREATE EXTENSION softlock');
SELECT * FROM softlock.locks;
\set ECHO none
DROP SCHEMA softlock CASCADE;
DROP ROLE softlock_eve, "Softlock-Admin";
