-- Tables that keep their lock columns: what can be adopted, what can't and why, and what a sweep by hand makes
-- of them.
\set ECHO none
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS softlock CASCADE;
CREATE EXTENSION softlock;
CREATE ROLE softlock_shop;
CREATE ROLE softlock_clerk IN ROLE softlock_shop;
CREATE ROLE softlock_eve;
CREATE SCHEMA "Odd ""Shop""" AUTHORIZATION softlock_shop;
GRANT CREATE ON SCHEMA public TO softlock_shop;
SET ROLE softlock_shop;
CREATE TABLE reservation (
    id serial PRIMARY KEY, kit_id int, status varchar(10) DEFAULT 'reserved',
    locked_until timestamptz, locked_by int, cart text, day date, changed_at timestamptz NOT NULL DEFAULT now(),
    number int GENERATED ALWAYS AS (kit_id + 1) STORED
);
CREATE INDEX ON reservation (locked_until);
CREATE FUNCTION lapsed(kits int[], hours int DEFAULT -1) RETURNS void LANGUAGE sql AS $$
    INSERT INTO public.reservation (kit_id, status, locked_until, locked_by, cart)
    SELECT kit, CASE kit WHEN 13 THEN 'sold' ELSE 'reserved' END, now() + make_interval(hours => hours, mins => kit), 7, 'cart-' || kit
    FROM unnest(kits) AS kit
$$;
-- What happened to each table, without what differs from run to run.
CREATE FUNCTION swept(report jsonb) RETURNS TABLE ("table" text, count text, affected text, truncated text, error text) LANGUAGE sql AS $$
    SELECT r->>'table', r->>'released_count', r->>'affected', r->>'affected_truncated', r->>'error'
    FROM jsonb_array_elements(report->'adopted') AS r
$$;
RESET ROLE;
\set ECHO queries
\set VERBOSITY default
\pset format unaligned
\pset tuples_only on
RESET client_min_messages;

-- A shop as it is.
SET ROLE softlock_shop;
SELECT softlock_adopt('reservation', 'locked_until', clears => '{locked_by,cart}', condition => $$status = 'reserved'$$, label => 'kit_id');
SELECT lapsed('{3,1,2,13}'), lapsed('{21,22}', 1);
RESET ROLE;
SELECT * FROM swept(softlock_sweep());
SELECT kit_id, status, locked_until IS NULL, locked_by, cart FROM reservation ORDER BY kit_id;
SELECT * FROM swept(softlock_sweep());
-- At most so many of each table, oldest first.
SELECT lapsed('{5,4,6}');
SELECT * FROM swept(softlock_sweep(2));
SELECT * FROM swept(softlock_sweep(2));

-- Changed: no condition, and the primary key for a label.
SELECT softlock_adopt('reservation', 'locked_until');
SELECT * FROM swept(softlock_sweep());
SELECT kit_id, locked_until IS NULL, locked_by FROM reservation WHERE status = 'sold';
SELECT relation, expires_column, clears, condition, label, adopted_by::regrole, failed_at FROM softlock.adopted;

-- Ended; asking again is harmless.
SELECT softlock_disown('reservation');
SELECT softlock_disown('reservation');
SELECT * FROM swept(softlock_sweep());

-- What can't be adopted.
SELECT softlock_adopt('nosuch', 'locked_until');
SELECT softlock_adopt(4000000000, 'locked_until');
SELECT softlock_adopt(NULL, 'locked_until');
CREATE VIEW a_view AS SELECT * FROM reservation;
SELECT softlock_adopt('a_view', 'locked_until');
CREATE MATERIALIZED VIEW a_matview AS SELECT * FROM reservation;
SELECT softlock_adopt('a_matview', 'locked_until');
SELECT softlock_adopt('reservation_pkey', 'id');
SELECT softlock_adopt('reservation_id_seq', 'last_value');
CREATE FOREIGN DATA WRAPPER elsewhere;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER elsewhere;
CREATE FOREIGN TABLE a_foreign (locked_until timestamptz) SERVER elsewhere;
SELECT softlock_adopt('a_foreign', 'locked_until');
CREATE TABLE partly (locked_until timestamptz, kit_id int) PARTITION BY LIST (kit_id);
CREATE FOREIGN TABLE partly_foreign PARTITION OF partly DEFAULT SERVER elsewhere;
SELECT softlock_adopt('partly', 'locked_until');
CREATE TEMPORARY TABLE a_temporary (locked_until timestamptz);
SELECT softlock_adopt('a_temporary', 'locked_until');
SELECT softlock_adopt('pg_authid', 'rolvaliduntil');
SET ROLE softlock_eve;
SELECT softlock_adopt('reservation', 'locked_until');
SELECT softlock_disown('reservation');
SELECT * FROM softlock.adopted;
RESET ROLE;

-- Columns.
SELECT softlock_adopt('reservation', NULL);
SELECT softlock_adopt('reservation', '');
SELECT softlock_adopt('reservation', 'nosuch');
SELECT softlock_adopt('reservation', 'xmin');
SELECT softlock_adopt('reservation', 'LOCKED_UNTIL');
SELECT softlock_adopt('reservation', 'locked_until; DROP TABLE reservation');
SELECT softlock_adopt('reservation', repeat('x', 64));
SELECT softlock_adopt('reservation', 'changed_at');
SELECT softlock_adopt('reservation', 'day');
SELECT softlock_adopt('reservation', 'locked_until', NULL);
SELECT softlock_adopt('reservation', 'locked_until', '{cart,NULL}');
SELECT softlock_adopt('reservation', 'locked_until', '{cart,nosuch}');
SELECT softlock_adopt('reservation', 'locked_until', '{cart,id}');
SELECT softlock_adopt('reservation', 'locked_until', '{number}');
SELECT softlock_adopt('reservation', 'locked_until', array_fill('cart'::text, '{1601}'));
SELECT softlock_adopt('reservation', 'locked_until', label => 'nosuch');
CREATE DOMAIN always AS timestamptz NOT NULL;
CREATE TABLE of_domain (locked_until always);
SELECT softlock_adopt('of_domain', 'locked_until');
CREATE TABLE parts (locked_until timestamptz, kit_id int) PARTITION BY LIST (kit_id);
CREATE TABLE parts_1 PARTITION OF parts (locked_until NOT NULL) FOR VALUES IN (1);
SELECT softlock_adopt('parts', 'locked_until');

-- Conditions.
SELECT softlock_adopt('reservation', 'locked_until', condition => '');
SELECT softlock_adopt('reservation', 'locked_until', condition => 'status =');
SELECT softlock_adopt('reservation', 'locked_until', condition => 'nosuch = 1');
SELECT softlock_adopt('reservation', 'locked_until', condition => 'kit_id');
SELECT softlock_adopt('reservation', 'locked_until', condition => 'count(*) > 1');
SELECT softlock_adopt('reservation', 'locked_until', condition => '$1');
SELECT softlock_adopt('reservation', 'locked_until', condition => 'true, false');
SELECT softlock_adopt('reservation', 'locked_until', condition => 'true AS it');
SELECT softlock_adopt('reservation', 'locked_until', condition => 'true; DELETE FROM reservation');
SELECT softlock_adopt('reservation', 'locked_until', condition => 'true); DELETE FROM reservation; SELECT (true');
SELECT softlock_adopt('reservation', 'locked_until', condition => 'true) FROM reservation WHERE (true');
SELECT softlock_adopt('reservation', 'locked_until', condition => 'true) UNION SELECT (true');
SELECT softlock_adopt('reservation', 'locked_until', condition => 'EXISTS (WITH gone AS (DELETE FROM reservation RETURNING *) SELECT * FROM gone)');
SELECT softlock_adopt('reservation', 'locked_until', condition => 'nextval(''reservation_id_seq'') > 0');
SELECT softlock_adopt('reservation', 'locked_until', condition => 'EXISTS (SELECT lapsed(''{1}''))');
SELECT softlock_adopt('reservation', 'locked_until', condition => repeat('x', 8193));
-- Nothing was registered by any of these, nor written.
SELECT count(*) FROM softlock.adopted;
SELECT count(*) FROM reservation;
BEGIN READ ONLY;
SELECT softlock_adopt('reservation', 'locked_until');
ROLLBACK;
BEGIN READ ONLY;
SELECT softlock_disown('reservation');
ROLLBACK;

-- A condition means what it meant to who wrote it, whatever the sweep's search_path: functions, operators and
-- types by their schemas, a table by its name, also in a subquery; with a comment at its end.
CREATE SCHEMA own;
CREATE FUNCTION own.is_open(int) RETURNS boolean STABLE LANGUAGE sql AS $$ SELECT $1 <> 13 $$;
GRANT USAGE ON SCHEMA own TO softlock_shop;
SET ROLE softlock_clerk;
SET search_path TO own, public;
SELECT softlock_adopt('reservation', 'locked_until', clears => '{cart,cart,locked_until}', label => 'kit_id', condition =>
    'is_open(kit_id) AND NOT EXISTS (SELECT FROM reservation AS other WHERE other.kit_id = reservation.kit_id AND other.id > reservation.id) -- the last')->>'condition';
RESET search_path;
SELECT lapsed('{13,31,32}'), lapsed('{31}');
RESET ROLE;
SELECT * FROM swept(softlock_sweep());
SELECT * FROM swept(softlock_sweep());

-- Capitals and quotes, no index, no key, a label that is cleared, timestamps without time zone, partitions,
-- rows that are inherited.
SET ROLE softlock_shop;
SET search_path TO "Odd ""Shop""", public;
SET timezone = 'Asia/Tokyo';
CREATE TABLE "Held ""Kits""" ("Until" timestamp, "Who's" text, "Cart %I" text) PARTITION BY LIST ("Who's");
CREATE TABLE "Part ""1""" PARTITION OF "Held ""Kits""" FOR VALUES IN ('anna');
CREATE TABLE "Part 2" PARTITION OF "Held ""Kits""" DEFAULT;
INSERT INTO "Held ""Kits""" VALUES
    (localtimestamp - interval '2 s', 'anna', 'a'), (localtimestamp - interval '1 s', 'boris', 'b'), (localtimestamp + interval '1 h', 'boris', 'c'),
    ('-infinity', 'clara', 'd'), ('infinity', 'clara', 'e'), (NULL, 'clara', 'f');
SELECT softlock_adopt('"Held ""Kits"""', 'Until', '{"Cart %I"}', $$"Who's" <> 'd''Arc\'$$, 'Cart %I');
CREATE TABLE parent (locked_until timestamptz, kit_id int);
CREATE TABLE child (PRIMARY KEY (kit_id)) INHERITS (parent);
INSERT INTO parent VALUES (now() - interval '1 s', 1);
INSERT INTO child VALUES (now() - interval '1 s', 2);
\set VERBOSITY terse
SELECT softlock_adopt('parent', 'locked_until')->'label';
\set VERBOSITY default
RESET timezone;
RESET search_path;
RESET ROLE;
SET timezone = 'America/New_York';
SELECT * FROM swept(softlock_sweep()) WHERE "table" <> 'public.reservation';
RESET timezone;
SELECT * FROM "Odd ""Shop"""."Held ""Kits""" WHERE "Until" IS NULL ORDER BY 2;
SELECT * FROM swept(softlock_sweep()) WHERE "table" <> 'public.reservation';

-- What fails is in the report and is warned of once; the others are swept. In a transaction it undoes nothing else.
ALTER TABLE "Odd ""Shop"""."Held ""Kits""" RENAME "Until" TO until;
SELECT lapsed('{41}');
BEGIN;
SELECT count(softlock_acquire('kit:1', 'anna'));
SELECT * FROM swept(softlock_sweep());
SELECT * FROM swept(softlock_sweep()) WHERE error IS NOT NULL;
COMMIT;
SELECT resource FROM softlock_active;
SELECT relation, failed_at IS NOT NULL, last_error FROM softlock.adopted ORDER BY relation::text;
ALTER TABLE "Odd ""Shop"""."Held ""Kits""" RENAME until TO "Until";
SELECT * FROM swept(softlock_sweep()) WHERE error IS NOT NULL;
SELECT relation FROM softlock.adopted WHERE failed_at IS NOT NULL;
-- A trigger that raises, one that keeps its row, one that sets the expiry again.
CREATE FUNCTION stubborn() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CASE OLD.kit_id
        WHEN 51 THEN RAISE 'not this one' USING ERRCODE = 'XX123', DETAIL = 'It is mine.';
        WHEN 52 THEN RETURN NULL;
        WHEN 53 THEN NEW.locked_until := OLD.locked_until;
        ELSE NULL;
    END CASE;
    RETURN NEW;
END $$;
CREATE TRIGGER stubborn BEFORE UPDATE ON reservation FOR EACH ROW EXECUTE FUNCTION stubborn();
SELECT lapsed('{52,53,54}');
SELECT * FROM swept(softlock_sweep()) WHERE "table" = 'public.reservation';
SELECT lapsed('{51}');
SELECT * FROM swept(softlock_sweep()) WHERE "table" = 'public.reservation';
SELECT * FROM swept(softlock_sweep()) WHERE "table" = 'public.reservation';
DELETE FROM reservation WHERE kit_id IN (51, 52, 53);

-- Deferred constraints, as Django's, are checked at once where the transaction has written the rows itself; and
-- are deferred again afterwards.
CREATE TABLE kit (id int PRIMARY KEY);
CREATE TABLE hold (kit_id int REFERENCES kit DEFERRABLE INITIALLY DEFERRED, until timestamptz);
CREATE TABLE other (kit_id int REFERENCES kit DEFERRABLE INITIALLY DEFERRED);
SELECT count(softlock_adopt('hold', 'until', label => 'kit_id'));
BEGIN;
INSERT INTO kit VALUES (1);
INSERT INTO hold VALUES (1, now());
INSERT INTO other VALUES (2);
SELECT * FROM swept(softlock_sweep()) WHERE "table" = 'public.hold';
INSERT INTO hold VALUES (3, NULL);
INSERT INTO kit VALUES (2), (3);
COMMIT;
SELECT * FROM hold ORDER BY kit_id;
BEGIN;
INSERT INTO hold VALUES (4, now());
SELECT * FROM swept(softlock_sweep()) WHERE "table" = 'public.hold';
ROLLBACK;
DROP TABLE hold, other, kit;

-- Dropping a table ends it.
DROP TABLE "Odd ""Shop""".parent CASCADE;
SELECT "table", error FROM swept(softlock_sweep()) ORDER BY 1;
SELECT count(*) FROM softlock.adopted;

\set ECHO none
SET client_min_messages = warning;
RESET ROLE;
DROP EXTENSION softlock CASCADE;
DROP TABLE partly, of_domain, parts CASCADE;
DROP DOMAIN always;
DROP FOREIGN DATA WRAPPER elsewhere CASCADE;
DROP SCHEMA own CASCADE;
DROP OWNED BY softlock_shop CASCADE;
DROP FUNCTION IF EXISTS stubborn;
DROP ROLE softlock_shop, softlock_clerk, softlock_eve;
