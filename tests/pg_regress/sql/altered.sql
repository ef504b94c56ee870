-- Rows are written without an executor, so the table has to be exactly as the extension made it: what
-- an executor would do besides is refused by every verb, and named. Once undone, the same session goes on.
\set ECHO none
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS softlock CASCADE;
CREATE EXTENSION softlock;
CREATE TABLE kits (id int PRIMARY KEY, note text);
CREATE TRIGGER guard BEFORE UPDATE ON kits FOR EACH ROW EXECUTE FUNCTION softlock_guard('kit:', 'id');
INSERT INTO kits VALUES (1);

-- What is wrong with the table, in the words of the verbs; a verb that says something else shows up
-- with a line of its own.
CREATE FUNCTION pg_temp.refused() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    call text; state text; message text; detail text; hint text; said text; by_answer jsonb := '{}';
BEGIN
    FOREACH call IN ARRAY ARRAY[
        $c$SELECT softlock_acquire('k', 'anna')$c$,
        $c$SELECT softlock_acquire_many('{k,l}', 'anna')$c$,
        $c$SELECT softlock_renew('mine', 'anna')$c$,
        $c$SELECT softlock_release('mine', 'anna')$c$,
        $c$SELECT softlock_release_all('anna')$c$,
        $c$SELECT softlock_consume('{mine}', 'anna')$c$,
        $c$SELECT softlock_break('mine')$c$,
        $c$SELECT softlock_sweep()$c$,
        $c$SELECT softlock_status('{mine}')$c$,
        $c$SELECT softlock.pending()$c$,
        $c$UPDATE kits SET note = 'x'$c$]
    LOOP
        BEGIN
            EXECUTE call;
            said := 'works';
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
                detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
            said := CASE
                WHEN message = 'softlock.locks has been altered' AND hint LIKE 'Undo it: %'
                THEN state || ' ' || regexp_replace(detail, '\d{4,}', '(number)')
                ELSE concat_ws(' | ', state, message, detail, hint)
            END;
        END;
        by_answer := by_answer || jsonb_build_object(said, coalesce(by_answer->said, '[]') || to_jsonb(call));
    END LOOP;
    RETURN QUERY SELECT key || CASE WHEN jsonb_array_length(value) = 11 THEN '' ELSE ': ' || value::text END
    FROM jsonb_each(by_answer);
END $$;

CREATE FUNCTION pg_temp.raises(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE detail text;
BEGIN
    EXECUTE 'SELECT ' || call;
    RETURN 'works';
EXCEPTION WHEN object_not_in_prerequisite_state THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN SQLSTATE || ' ' || SQLERRM || ' | ' || detail;
END $$;

-- A life of a few locks, with every verb; and what is in the table is what was put there.
CREATE FUNCTION pg_temp.works() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    token bigint := softlock_acquire('k', 'anna', '1 h', 'cart', '{"till": 1}')->>'token';
BEGIN
    ASSERT softlock_acquire('k', 'boris')->>'outcome' = 'held';
    ASSERT softlock_renew('k', 'anna', '2 h', token)->>'outcome' = 'renewed';
    ASSERT softlock_acquire('k', 'anna', session => 'tab')->>'outcome' = 'moved';
    ASSERT (SELECT (owner, session, metadata, remaining > '1 h') = ('anna', 'tab', '{"till": 1}'::jsonb, true)
            FROM softlock_status('{k}', 'anna'));
    ASSERT (SELECT (resource, owner, session, role, metadata, slot) = ('k', 'anna', 'tab', 'postgres'::regrole, '{"till": 1}'::jsonb, 0)
            FROM softlock.locks AS l WHERE l.resource = 'k');
    ASSERT (softlock_acquire_many('{l,m}', 'anna', session => 'cart')->>'acquired')::bool;
    ASSERT softlock_consume('{l}', 'anna')->>'consumed_count' = '1';
    ASSERT softlock_release('k', 'anna')->>'outcome' = 'released';
    ASSERT softlock_release_all('anna', 'cart')->'resources' = '["m"]';
    PERFORM softlock_acquire('n', 'anna', '1 us');
    ASSERT softlock_sweep()->'affected' = '["n"]';
    PERFORM softlock_acquire('kit:1', 'anna');
    BEGIN
        UPDATE kits SET note = 'x';
        RAISE 'not guarded';
    EXCEPTION WHEN SQLSTATE 'SL002' THEN NULL;
    END;
    ASSERT (softlock_break('kit:1')->>'broken')::bool;
    RETURN (SELECT (count(*), min(resource), min(session), bool_and(live)) = (1, 'mine', 'home', true)
            FROM (SELECT resource, session, slot = 0 AND expires_at > clock_timestamp() + '50 min' AS live FROM softlock.locks) AS l);
END $$;
-- Whether table and indexes go together, as amcheck sees it, where the server has it.
CREATE FUNCTION pg_temp.sound() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'amcheck') THEN
        RETURN true;
    END IF;
    CREATE EXTENSION amcheck;
    PERFORM bt_index_parent_check(indexrelid, heapallindexed => true) FROM pg_index WHERE indrelid = 'softlock.locks'::regclass;
    RETURN NOT EXISTS (SELECT FROM verify_heapam('softlock.locks', check_toast => true));
END $$;
\set ECHO queries
\pset format unaligned
\pset tuples_only on
SELECT softlock_acquire('mine', 'anna', '1 h', 'home')->>'outcome';
SELECT pg_temp.works();

-- Columns: added, renamed, of another type, with a default, with another NOT NULL.
ALTER TABLE softlock.locks ADD later text;
SELECT * FROM pg_temp.refused();
ALTER TABLE softlock.locks DROP later;
SELECT pg_temp.works();
ALTER TABLE softlock.locks ADD later text NOT NULL DEFAULT 'x';
SELECT * FROM pg_temp.refused();
ALTER TABLE softlock.locks DROP later;
SELECT pg_temp.works();
ALTER TABLE softlock.locks ADD later text GENERATED ALWAYS AS (owner || '!') STORED;
SELECT * FROM pg_temp.refused();
ALTER TABLE softlock.locks DROP later;
SELECT pg_temp.works();
ALTER TABLE softlock.locks RENAME session TO cart;
SELECT * FROM pg_temp.refused();
ALTER TABLE softlock.locks RENAME cart TO session;
SELECT pg_temp.works();
ALTER TABLE softlock.locks ALTER slot TYPE bigint;
SELECT * FROM pg_temp.refused();
ALTER TABLE softlock.locks ALTER slot TYPE integer;
SELECT pg_temp.works();
ALTER TABLE softlock.locks ALTER slot SET DEFAULT 7;
SELECT * FROM pg_temp.refused();
ALTER TABLE softlock.locks ALTER slot DROP DEFAULT;
SELECT pg_temp.works();
ALTER TABLE softlock.locks ALTER token ADD GENERATED BY DEFAULT AS IDENTITY;
SELECT * FROM pg_temp.refused();
ALTER TABLE softlock.locks ALTER token DROP IDENTITY;
SELECT pg_temp.works();
ALTER TABLE softlock.locks ALTER acquired_at DROP NOT NULL;
SELECT * FROM pg_temp.refused();
ALTER TABLE softlock.locks ALTER acquired_at SET NOT NULL;
SELECT pg_temp.works();
ALTER TABLE softlock.locks ALTER session SET NOT NULL;
SELECT * FROM pg_temp.refused();
ALTER TABLE softlock.locks ALTER session DROP NOT NULL;
SELECT pg_temp.works();

-- Constraints.
ALTER TABLE softlock.locks ADD CONSTRAINT no_carol CHECK (owner <> 'carol');
SELECT * FROM pg_temp.refused();
ALTER TABLE softlock.locks DROP CONSTRAINT no_carol;
SELECT pg_temp.works();
ALTER TABLE softlock.locks ADD CONSTRAINT no_carol CHECK (owner <> 'carol') NOT VALID;
SELECT * FROM pg_temp.refused();
ALTER TABLE softlock.locks DROP CONSTRAINT no_carol;
SELECT pg_temp.works();
CREATE TABLE hold_note (resource text, slot integer, version bigint, FOREIGN KEY (resource, slot, version) REFERENCES softlock.locks);
SELECT * FROM pg_temp.refused();
DROP TABLE hold_note;
SELECT pg_temp.works();
CREATE TABLE slots AS SELECT 0 AS slot;
ALTER TABLE slots ADD PRIMARY KEY (slot);
ALTER TABLE softlock.locks ADD FOREIGN KEY (slot) REFERENCES slots;
SELECT * FROM pg_temp.refused();
DROP TABLE slots CASCADE;
SELECT pg_temp.works();
ALTER TABLE softlock.locks ADD CONSTRAINT one_each EXCLUDE USING btree (resource WITH =);
SELECT * FROM pg_temp.refused();
ALTER TABLE softlock.locks DROP CONSTRAINT one_each;
SELECT pg_temp.works();

-- Triggers, but for those that are disabled; rules.
CREATE FUNCTION pg_temp.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER audit BEFORE INSERT ON softlock.locks FOR EACH ROW EXECUTE FUNCTION pg_temp.nothing();
SELECT * FROM pg_temp.refused();
ALTER TABLE softlock.locks DISABLE TRIGGER audit;
SELECT pg_temp.works();
ALTER TABLE softlock.locks ENABLE REPLICA TRIGGER audit;
SELECT * FROM pg_temp.refused();
ALTER TABLE softlock.locks ENABLE ALWAYS TRIGGER audit;
SELECT * FROM pg_temp.refused();
DROP TRIGGER audit ON softlock.locks;
SELECT pg_temp.works();
CREATE TRIGGER keep BEFORE DELETE ON softlock.locks FOR EACH ROW EXECUTE FUNCTION pg_temp.nothing();
SELECT * FROM pg_temp.refused();
DROP TRIGGER keep ON softlock.locks;
SELECT pg_temp.works();
CREATE TRIGGER tell AFTER UPDATE ON softlock.locks FOR EACH STATEMENT EXECUTE FUNCTION pg_temp.nothing();
SELECT * FROM pg_temp.refused();
DROP TRIGGER tell ON softlock.locks;
SELECT pg_temp.works();
CREATE RULE keep AS ON DELETE TO softlock.locks DO INSTEAD NOTHING;
SELECT * FROM pg_temp.refused();
DROP RULE keep ON softlock.locks;
SELECT pg_temp.works();

-- Row security.
CREATE POLICY more ON softlock.locks FOR INSERT TO pg_monitor WITH CHECK (true);
SELECT * FROM pg_temp.refused();
DROP POLICY more ON softlock.locks;
SELECT pg_temp.works();
DROP POLICY monitor ON softlock.locks;
SELECT * FROM pg_temp.refused();
CREATE POLICY monitor ON softlock.locks FOR SELECT TO pg_monitor USING (true);
SELECT pg_temp.works();
ALTER TABLE softlock.locks DISABLE ROW LEVEL SECURITY;
SELECT * FROM pg_temp.refused();
ALTER TABLE softlock.locks ENABLE ROW LEVEL SECURITY;
SELECT pg_temp.works();
ALTER TABLE softlock.locks FORCE ROW LEVEL SECURITY;
SELECT * FROM pg_temp.refused();
ALTER TABLE softlock.locks NO FORCE ROW LEVEL SECURITY;
SELECT pg_temp.works();

-- Families.
CREATE TABLE heir () INHERITS (softlock.locks);
SELECT * FROM pg_temp.refused();
DROP TABLE heir;
SELECT pg_temp.works();
CREATE TABLE parent (resource text COLLATE "C" NOT NULL);
ALTER TABLE softlock.locks INHERIT parent;
SELECT * FROM pg_temp.refused();
ALTER TABLE softlock.locks NO INHERIT parent;
SELECT pg_temp.works();
DROP TABLE parent;
CREATE TABLE parent (LIKE softlock.locks) PARTITION BY LIST (slot);
ALTER TABLE parent ATTACH PARTITION softlock.locks FOR VALUES IN (0);
SELECT * FROM pg_temp.refused();
ALTER TABLE parent DETACH PARTITION softlock.locks;
SELECT pg_temp.works();
DROP TABLE parent;

-- Names.
ALTER TABLE softlock.locks RENAME TO holds;
SELECT * FROM pg_temp.refused();
CREATE TABLE softlock.locks (LIKE softlock.holds);
SELECT * FROM pg_temp.refused();
DROP TABLE softlock.locks;
ALTER TABLE softlock.holds RENAME TO locks;
SELECT pg_temp.works();
ALTER INDEX softlock.locks_pkey RENAME TO locks_by_name;
SELECT * FROM pg_temp.refused();
ALTER INDEX softlock.locks_by_name RENAME TO locks_pkey;
SELECT pg_temp.works();
ALTER INDEX softlock.locks_owner_idx RENAME TO locks_by_owner;
SELECT * FROM pg_temp.refused();
ALTER INDEX softlock.locks_by_owner RENAME TO locks_owner_idx;
SELECT pg_temp.works();
ALTER INDEX softlock.locks_expires_at_idx RENAME TO locks_by_expiry;
SELECT * FROM pg_temp.refused();
ALTER INDEX softlock.locks_by_expiry RENAME TO locks_expires_at_idx;
SELECT pg_temp.works();
ALTER SEQUENCE softlock.token RENAME TO ticket;
SELECT * FROM pg_temp.refused();
ALTER SEQUENCE softlock.ticket RENAME TO token;
SELECT pg_temp.works();
ALTER SEQUENCE softlock.swept RENAME TO broom;
SELECT * FROM pg_temp.refused();
ALTER SEQUENCE softlock.broom RENAME TO swept;
SELECT pg_temp.works();
ALTER SCHEMA softlock RENAME TO locksmith;
SELECT pg_temp.raises($$softlock_acquire('k', 'anna')$$), pg_temp.raises($$softlock_status('{k}')$$);
ALTER SCHEMA locksmith RENAME TO softlock;
SELECT pg_temp.works();

-- Indexes: with an expression, a predicate, unique, of another kind, missing, or in another's place.
CREATE INDEX odd ON softlock.locks (lower(owner));
SELECT * FROM pg_temp.refused();
DROP INDEX softlock.odd;
SELECT pg_temp.works();
CREATE INDEX odd ON softlock.locks (owner) WHERE session IS NULL;
SELECT * FROM pg_temp.refused();
DROP INDEX softlock.odd;
SELECT pg_temp.works();
CREATE UNIQUE INDEX odd ON softlock.locks (resource);
SELECT * FROM pg_temp.refused();
DROP INDEX softlock.odd;
SELECT pg_temp.works();
CREATE INDEX odd ON softlock.locks USING hash (owner);
SELECT * FROM pg_temp.refused();
DROP INDEX softlock.odd;
SELECT pg_temp.works();
CREATE INDEX odd ON softlock.locks USING brin (acquired_at);
SELECT * FROM pg_temp.refused();
DROP INDEX softlock.odd;
SELECT pg_temp.works();
CREATE INDEX odd ON softlock.locks USING gin (metadata);
SELECT * FROM pg_temp.refused();
DROP INDEX softlock.odd;
SELECT pg_temp.works();
DROP INDEX softlock.locks_expires_at_idx;
SELECT * FROM pg_temp.refused();
CREATE INDEX locks_expires_at_idx ON softlock.locks (acquired_at);
SELECT * FROM pg_temp.refused();
DROP INDEX softlock.locks_expires_at_idx;
CREATE INDEX locks_expires_at_idx ON softlock.locks (expires_at DESC);
SELECT * FROM pg_temp.refused();
DROP INDEX softlock.locks_expires_at_idx;
CREATE INDEX locks_expires_at_idx ON softlock.locks (expires_at);
SELECT pg_temp.works();
DROP INDEX softlock.locks_owner_idx;
SELECT * FROM pg_temp.refused();
CREATE INDEX locks_owner_idx ON softlock.locks (owner COLLATE "default", expires_at);
SELECT * FROM pg_temp.refused();
DROP INDEX softlock.locks_owner_idx;
CREATE INDEX locks_owner_idx ON softlock.locks (owner) INCLUDE (expires_at);
SELECT * FROM pg_temp.refused();
DROP INDEX softlock.locks_owner_idx;
CREATE INDEX locks_owner_idx ON softlock.locks (owner, expires_at);
SELECT pg_temp.works();
ALTER TABLE softlock.locks DROP CONSTRAINT locks_pkey;
SELECT * FROM pg_temp.refused();
CREATE INDEX locks_pkey ON softlock.locks (resource, slot, version);
SELECT * FROM pg_temp.refused();
DROP INDEX softlock.locks_pkey;
ALTER TABLE softlock.locks ADD CONSTRAINT locks_pkey PRIMARY KEY (resource, version, slot);
SELECT * FROM pg_temp.refused();
ALTER TABLE softlock.locks DROP CONSTRAINT locks_pkey;
ALTER TABLE softlock.locks ADD CONSTRAINT locks_pkey PRIMARY KEY (resource, slot, version) DEFERRABLE;
SELECT * FROM pg_temp.refused();
ALTER TABLE softlock.locks DROP CONSTRAINT locks_pkey;
ALTER TABLE softlock.locks ADD CONSTRAINT locks_pkey PRIMARY KEY (resource, slot, version);
SELECT pg_temp.works();

-- What asks nothing of who writes is served.
CREATE INDEX plain ON softlock.locks (session, acquired_at DESC);
CREATE UNIQUE INDEX same ON softlock.locks (resource, slot, version);
ALTER TABLE softlock.locks REPLICA IDENTITY FULL;
SELECT pg_temp.works();
ALTER TABLE softlock.locks REPLICA IDENTITY USING INDEX locks_pkey;
SELECT pg_temp.works();
ALTER TABLE softlock.locks REPLICA IDENTITY NOTHING;
ALTER TABLE softlock.locks SET (fillfactor = 50);
ALTER TABLE softlock.locks ALTER metadata SET STORAGE EXTERNAL, ALTER owner SET STATISTICS 10;
REINDEX TABLE softlock.locks;
CLUSTER softlock.locks USING plain;
VACUUM FULL softlock.locks;
ANALYZE softlock.locks;
SELECT pg_temp.works();

-- And every index is kept up, and metadata that is too long for a page's row.
SELECT softlock_acquire('big', 'anna', '1 h', 'home', metadata)->>'outcome', softlock_renew('big', 'anna', '2 h')->>'outcome',
    softlock_acquire('big', 'anna', session => 'tab')->>'outcome', softlock_acquire('big', 'boris')->'metadata' = metadata,
    softlock_acquire('big', 'anna', session => 'home', metadata => '{}')->>'outcome', softlock_acquire('big', 'anna', metadata => metadata)->>'outcome',
    (SELECT s.metadata = m.metadata FROM softlock_status('{big}') AS s)
FROM (SELECT jsonb_build_object('x', string_agg(md5(i::text), '')) AS metadata FROM generate_series(1, 250) AS i) AS m;
SELECT softlock_acquire_many(ARRAY(SELECT 'k' || i FROM generate_series(1, 500) AS i), 'anna', session => 's' || n % 2)->>'acquired'
FROM generate_series(1, 5) AS n;
SELECT softlock_release_all('anna', 'home')->>'released_count', softlock_consume(ARRAY['k1', 'k2'], 'anna')->>'consumed_count';
SELECT pg_temp.sound();
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SELECT count(*) FROM softlock.locks WHERE session = 's1';
SELECT count(*) FROM (SELECT FROM softlock.locks WHERE resource > '' ORDER BY resource, slot, version) AS l;
SELECT count(*) FROM (SELECT FROM softlock.locks WHERE owner = 'anna' ORDER BY owner, expires_at) AS l;
SELECT count(*) FROM (SELECT FROM softlock.locks WHERE expires_at > '-infinity' ORDER BY expires_at) AS l;
\set ECHO none
DROP EXTENSION IF EXISTS amcheck;
DROP TABLE kits;
DROP EXTENSION softlock;
