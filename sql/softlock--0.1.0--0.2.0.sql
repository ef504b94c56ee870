\echo Use "ALTER EXTENSION softlock UPDATE TO '0.2.0'" to load this file. \quit

-- From 0.1.0, where a lock was a row and its token a sequence's next value, to 0.2.0, where the newest
-- version of a row counts and tokens are drawn from the clock. Live locks stay as they are, and so does
-- whatever a DBA has granted or revoked since the extension was installed. What is new here is what
-- the other files make; a test compares the two.
--
-- To add an object: make it under "What is new", and say under "Who may do what" to whom it is granted. To
-- change what a function takes or answers: drop it and make it under "What is made anew". Whose it is, that
-- nobody has it from default privileges, who was allowed to call it, and what pg_dump is to know follows from
-- what was there before.

SET LOCAL search_path TO pg_catalog, pg_temp;

-- Rows are read by position, so that the new columns must be the next ones, for good.
DO $$
BEGIN
    IF (SELECT max(attnum) FROM pg_attribute WHERE attrelid = 'softlock.locks'::regclass) <> 8 THEN
        RAISE EXCEPTION 'softlock.locks has been altered'
            USING ERRCODE = '55000',
                  DETAIL = 'A column has been added, and maybe dropped again.',
                  HINT = 'DROP EXTENSION softlock, and CREATE EXTENSION softlock: locks are of the moment.';
    END IF;
END
$$;

-- The extension's objects, and those that it had before. Only for this script, which drops both at its end:
-- not as temporary ones, whose names the session may have taken; and unlogged, as a publication of all
-- tables would send the rows to servers that don't know the table.
CREATE VIEW softlock.object AS
SELECT o.class, o.oid, o.type, o.kind, o.name, o.called, o.owner, coalesce(o.acl, acldefault(o.type, o.owner)) AS acl
FROM pg_extension AS e
JOIN pg_depend AS d ON (d.refclassid, d.refobjid, d.deptype) = ('pg_extension'::regclass, e.oid, 'e')
CROSS JOIN LATERAL (
    SELECT d.classid::regclass AS class, oid, CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char" AS type,
           CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, oid::regclass::text AS name,
           oid::regclass::text AS called, relowner AS owner, relacl AS acl
    FROM pg_class WHERE d.classid = 'pg_class'::regclass AND oid = d.objid
    UNION ALL
    SELECT d.classid, oid, 'f', 'FUNCTION', oid::regprocedure::text,
           concat_ws('.', pronamespace::regnamespace, quote_ident(proname)), proowner, proacl
    FROM pg_proc WHERE d.classid = 'pg_proc'::regclass AND oid = d.objid
    UNION ALL
    SELECT d.classid, oid, 'n', 'SCHEMA', oid::regnamespace::text, oid::regnamespace::text, nspowner, nspacl
    FROM pg_namespace WHERE d.classid = 'pg_namespace'::regclass AND oid = d.objid
) AS o
WHERE e.extname = 'softlock';

CREATE UNLOGGED TABLE softlock.object_before USING heap AS
SELECT o.*, i.initprivs
FROM softlock.object AS o
LEFT JOIN pg_init_privs AS i ON (i.classoid, i.objoid, i.objsubid) = (o.class, o.oid, 0);

--
-- What is changed
--

ALTER SEQUENCE softlock.token MAXVALUE 9007199254740991;

-- The rows are written anew, in one go with the new primary key: no version without the new columns is
-- left to be read.
ALTER TABLE softlock.locks ADD COLUMN slot integer, ADD COLUMN version bigint, ADD COLUMN units integer;
ALTER TABLE softlock.locks
    DROP CONSTRAINT locks_pkey,
    ALTER COLUMN slot TYPE integer USING 0,
    ALTER COLUMN version TYPE bigint USING token,
    ALTER COLUMN units TYPE integer USING 1,
    ALTER COLUMN slot SET NOT NULL,
    ALTER COLUMN version SET NOT NULL,
    ALTER COLUMN units SET NOT NULL,
    ADD CONSTRAINT locks_pkey PRIMARY KEY (resource, slot, version),
    SET (vacuum_truncate = off, toast.vacuum_truncate = off);
DROP INDEX softlock.locks_owner_idx;
CREATE INDEX locks_owner_idx ON softlock.locks (owner, expires_at);
CREATE POLICY monitor ON softlock.locks FOR SELECT TO pg_monitor USING (true);

COMMENT ON SEQUENCE softlock.token IS
    'floor of the clock that fencing tokens are drawn from, in microseconds since 1970; only rises';
COMMENT ON COLUMN softlock.locks.slot IS 'which of the resource''s holds this is; 0 where there can only be one';
COMMENT ON COLUMN softlock.locks.version IS 'larger with every write of the resource; the newest committed one counts';
COMMENT ON COLUMN softlock.locks.units IS 'how many of the resource''s units the hold takes; 1 where there is only one';
COMMENT ON INDEX softlock.locks_pkey IS 'finds the newest version of a resource''s lock';
COMMENT ON INDEX softlock.locks_owner_idx IS 'finds an owner''s live locks';
COMMENT ON POLICY monitor ON softlock.locks IS 'who monitors may see what has lapsed and is not swept';

CREATE OR REPLACE VIEW @extschema@.softlock_active AS
SELECT l.resource, l.owner, l.session, l.role, l.metadata, l.acquired_at, l.expires_at,
       l.expires_at - t.now AS remaining, l.units
FROM (SELECT clock_timestamp() AS now OFFSET 0) AS t
JOIN softlock.locks AS l ON l.expires_at > t.now;
COMMENT ON COLUMN @extschema@.softlock_active.units IS 'how many of the resource''s units it takes';

-- The verbs run no SQL any more, so that they need no rights of their own. With new symbols: a session
-- that still has the older library must not write this table.
CREATE OR REPLACE FUNCTION @extschema@.softlock_renew(
    "resource" text, "owner" text, "ttl" interval DEFAULT NULL, "token" bigint DEFAULT NULL
) RETURNS jsonb COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', 'softlock_renew_v2_wrapper';
CREATE OR REPLACE FUNCTION @extschema@.softlock_release(
    "resource" text, "owner" text, "token" bigint DEFAULT NULL
) RETURNS jsonb COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', 'softlock_release_v2_wrapper';
CREATE OR REPLACE FUNCTION @extschema@.softlock_release_all(
    "owner" text, "session" text DEFAULT NULL
) RETURNS jsonb COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', 'softlock_release_all_v2_wrapper';
CREATE OR REPLACE FUNCTION @extschema@.softlock_consume(
    "resources" text[], "owner" text, "tokens" bigint[] DEFAULT NULL
) RETURNS jsonb COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', 'softlock_consume_v2_wrapper';
CREATE OR REPLACE FUNCTION @extschema@.softlock_break(
    "resource" text, "reason" text DEFAULT NULL
) RETURNS jsonb COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', 'softlock_break_v2_wrapper';
CREATE OR REPLACE FUNCTION @extschema@.softlock_sweep(
    "max_rows" integer DEFAULT NULL
) RETURNS jsonb COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', 'softlock_sweep_v2_wrapper';
CREATE OR REPLACE FUNCTION @extschema@.softlock_guard() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'softlock_guard_v2_wrapper';
COMMENT ON FUNCTION @extschema@.softlock_guard() IS
    'BEFORE INSERT OR UPDATE OR DELETE row trigger: refuse to write a row that somebody else holds; arguments: prefix, key column [, require]';

--
-- What is made anew: with other arguments, or another answer. What depends on it, such as a view, has to be
-- dropped before.
--

DROP FUNCTION @extschema@.softlock_acquire(text, text, interval, text, jsonb, interval);
CREATE FUNCTION @extschema@.softlock_acquire(
    "resource" text, "owner" text, "ttl" interval DEFAULT NULL, "session" text DEFAULT NULL,
    "metadata" jsonb DEFAULT NULL, "wait" interval DEFAULT '0', "units" integer DEFAULT 1, "capacity" integer DEFAULT 1
) RETURNS jsonb COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', 'softlock_acquire_v2_wrapper';
COMMENT ON FUNCTION @extschema@.softlock_acquire(text, text, interval, text, jsonb, interval, integer, integer) IS
    'take a resource for an owner, prolong the owner''s hold on it, or say who has it';

DROP FUNCTION @extschema@.softlock_acquire_many(text[], text, interval, text, jsonb);
CREATE FUNCTION @extschema@.softlock_acquire_many(
    "resources" text[], "owner" text, "ttl" interval DEFAULT NULL, "session" text DEFAULT NULL,
    "metadata" jsonb DEFAULT NULL, "units" integer[] DEFAULT NULL, "capacities" integer[] DEFAULT NULL
) RETURNS jsonb COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', 'softlock_acquire_many_v2_wrapper';
COMMENT ON FUNCTION @extschema@.softlock_acquire_many(text[], text, interval, text, jsonb, integer[], integer[]) IS
    'take a whole cart for an owner, all or nothing, or list every conflict';

DROP FUNCTION @extschema@.softlock_status(text[], text);
CREATE FUNCTION @extschema@.softlock_status(
    "resources" text[], "owner" text DEFAULT NULL
) RETURNS TABLE (
    "resource" text, "is_locked" boolean, "locked_by_me" boolean, "owner" text, "session" text,
    "metadata" jsonb, "acquired_at" timestamptz, "expires_at" timestamptz, "remaining" interval,
    "pending_owner" text, "pending_pid" integer, "units" integer
)
COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', 'softlock_status_v2_wrapper';
COMMENT ON FUNCTION @extschema@.softlock_status(text[], text) IS
    'a row per resource asked about, in that order: who holds it, until when, whether it is the given owner, and who is taking it';

--
-- What is new
--

CREATE SEQUENCE softlock.swept AS bigint MINVALUE 1 CACHE 1 NO CYCLE;
COMMENT ON SEQUENCE softlock.swept IS
    'up to where the worker has swept, in microseconds since 1970';

CREATE FUNCTION softlock.pending(
    OUT resource text, OUT owner text, OUT role regrole, OUT doing text, OUT transaction xid, OUT pid integer
) RETURNS SETOF record
COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', 'softlock_pending_rows_wrapper';

CREATE FUNCTION @extschema@.softlock_pending(
    OUT resource text, OUT owner text, OUT role regrole, OUT doing text, OUT pid integer, OUT gid text,
    OUT since timestamptz
) RETURNS SETOF record
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path TO pg_catalog, pg_temp
AS $$
    SELECT p.resource, p.owner, p.role, p.doing, p.pid, x.gid, coalesce(a.xact_start, x.prepared)
    FROM softlock.pending() AS p
    LEFT JOIN pg_stat_activity AS a ON a.pid = p.pid
    LEFT JOIN pg_prepared_xacts AS x ON x.transaction = p.transaction
    ORDER BY 7, 1
$$;

COMMENT ON FUNCTION @extschema@.softlock_pending() IS
    'what uncommitted transactions are taking or ending, who makes others contended, and since when';
COMMENT ON FUNCTION softlock.pending() IS
    'the rows of softlock_pending, with the transaction instead of its session';

CREATE FUNCTION @extschema@.softlock_acquire_any(
    "resources" text[], "owner" text, "count" integer DEFAULT 1, "ttl" interval DEFAULT NULL,
    "session" text DEFAULT NULL, "metadata" jsonb DEFAULT NULL
) RETURNS jsonb COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', 'softlock_acquire_any_v2_wrapper';
COMMENT ON FUNCTION @extschema@.softlock_acquire_any(text[], text, integer, interval, text, jsonb) IS
    'take the first of a list of resources that can be had, or several of them, or list every conflict';

CREATE FUNCTION @extschema@.softlock_renew_all(
    "owner" text, "session" text DEFAULT NULL, "ttl" interval DEFAULT NULL
) RETURNS jsonb COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', 'softlock_renew_all_v2_wrapper';
COMMENT ON FUNCTION @extschema@.softlock_renew_all(text, text, interval) IS
    'prolong an owner''s live locks, or those of one session, in one call';

CREATE FUNCTION @extschema@.softlock_transfer(
    "resources" text[], "owner" text, "new_owner" text, "session" text DEFAULT NULL, "tokens" bigint[] DEFAULT NULL
) RETURNS jsonb COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', 'softlock_transfer_v2_wrapper';
COMMENT ON FUNCTION @extschema@.softlock_transfer(text[], text, text, text, bigint[]) IS
    'hand locks over to another owner, all or none, with new tokens';

CREATE FUNCTION @extschema@.softlock_break_all(
    "owner" text DEFAULT NULL, "session" text DEFAULT NULL, "prefix" text DEFAULT NULL,
    "older_than" interval DEFAULT NULL, "reason" text DEFAULT NULL
) RETURNS jsonb COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', 'softlock_break_all_v2_wrapper';
COMMENT ON FUNCTION @extschema@.softlock_break_all(text, text, text, interval, text) IS
    'free the live locks of an owner, a session, a kind or of long ago, and log who did it and why';

-- What holds of a kind may do, where that is not what the settings say. Written by the DBA, and dumped.
CREATE FUNCTION softlock.policies_changed() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'policies_changed_wrapper';

CREATE TABLE softlock.policies (
    kind          text COLLATE "C" NOT NULL,
    default_ttl   interval,
    max_ttl       interval,
    max_hold      interval,
    max_per_owner integer,
    CONSTRAINT policies_pkey PRIMARY KEY (kind),
    CONSTRAINT kind_has_no_colon CHECK (pg_catalog.strpos(kind, ':') OPERATOR(pg_catalog.=) 0),
    CONSTRAINT kind_is_short CHECK (pg_catalog.octet_length(kind) OPERATOR(pg_catalog.<=) 1024),
    CONSTRAINT default_ttl_is_a_time CHECK (
        default_ttl OPERATOR(pg_catalog.>=) '1 microsecond' AND default_ttl OPERATOR(pg_catalog.<=) '100 years'),
    CONSTRAINT max_ttl_is_a_time CHECK (
        max_ttl OPERATOR(pg_catalog.>=) '1 microsecond' AND max_ttl OPERATOR(pg_catalog.<=) '100 years'),
    CONSTRAINT max_hold_is_a_time CHECK (
        max_hold OPERATOR(pg_catalog.>=) '1 microsecond' AND max_hold OPERATOR(pg_catalog.<=) '100 years'),
    CONSTRAINT default_ttl_is_at_most_max_ttl CHECK (default_ttl OPERATOR(pg_catalog.<=) max_ttl),
    CONSTRAINT max_per_owner_is_positive CHECK (max_per_owner OPERATOR(pg_catalog.>=) 1)
);

CREATE TRIGGER tell_sessions AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON softlock.policies
    FOR EACH STATEMENT EXECUTE FUNCTION softlock.policies_changed();
-- Also where a replica or a restore writes it.
ALTER TABLE softlock.policies ENABLE ALWAYS TRIGGER tell_sessions;

SELECT pg_catalog.pg_extension_config_dump('softlock.policies', '');

COMMENT ON TABLE softlock.policies IS
    'what holds of a kind may do; what is NULL is left to the settings; a change counts from the next call on';
COMMENT ON COLUMN softlock.policies.kind IS 'what stands before the first colon of a resource; empty for those without one';
COMMENT ON COLUMN softlock.policies.default_ttl IS 'time to live where a call gives none; else softlock.default_ttl';
COMMENT ON COLUMN softlock.policies.max_ttl IS 'longest time to live that a call may give; else softlock.max_ttl';
COMMENT ON COLUMN softlock.policies.max_hold IS 'longest time from grant to expiry, renewals included; else softlock.max_hold';
COMMENT ON COLUMN softlock.policies.max_per_owner IS 'how many locks of the kind an owner may have at a time; NULL for any number';
COMMENT ON TRIGGER tell_sessions ON softlock.policies IS 'has every session read the policies anew';
COMMENT ON CONSTRAINT kind_has_no_colon ON softlock.policies IS 'a kind ends before the first colon';
COMMENT ON INDEX softlock.policies_pkey IS 'one policy for a kind';
COMMENT ON FUNCTION softlock.policies_changed() IS 'trigger function of softlock.policies: has every session read them anew';

-- What has become of locks, where softlock.history has it written down. As the locks', its rows are written
-- below SQL, and by nobody else; row-level security keeps out even pg_write_all_data.
CREATE TABLE softlock.history (
    id       bigint NOT NULL,
    at       timestamptz NOT NULL,
    event    text COLLATE "C" NOT NULL,
    resource text COLLATE "C" NOT NULL,
    owner    text COLLATE "C" NOT NULL,
    session  text COLLATE "C",
    token    bigint NOT NULL,
    role     regrole NOT NULL,
    actor    text COLLATE "C" NOT NULL,
    reason   text COLLATE "C",
    held     interval,
    units    integer NOT NULL,
    CONSTRAINT history_pkey PRIMARY KEY (id)
) USING heap
-- A truncation would cancel a standby's readers.
WITH (vacuum_truncate = off, toast.vacuum_truncate = off);

CREATE INDEX history_resource_idx ON softlock.history (resource, id);

ALTER TABLE softlock.history ENABLE ROW LEVEL SECURITY;
CREATE POLICY monitor ON softlock.history FOR SELECT TO pg_monitor USING (true);

COMMENT ON TABLE softlock.history IS
    'a row per change of a lock, as the setting softlock.history says; pruned by the sweep; read it as softlock_history';
COMMENT ON COLUMN softlock.history.id IS 'number of the row, larger than those before it';
COMMENT ON COLUMN softlock.history.at IS 'when it happened, or was found out';
COMMENT ON COLUMN softlock.history.event IS
    'granted, renewed, moved, released, consumed, broken or lapsed';
COMMENT ON COLUMN softlock.history.resource IS 'what was locked';
COMMENT ON COLUMN softlock.history.owner IS 'who held it';
COMMENT ON COLUMN softlock.history.session IS 'the owner''s session, as a cart id';
COMMENT ON COLUMN softlock.history.token IS 'fencing token of the lock';
COMMENT ON COLUMN softlock.history.role IS 'the database role that took the lock';
COMMENT ON COLUMN softlock.history.actor IS
    'name of the database role that did it, as it was then; of the worker''s sweep, the superuser it runs as';
COMMENT ON COLUMN softlock.history.reason IS 'why the lock was broken';
COMMENT ON COLUMN softlock.history.held IS 'how long the lock had been held when it ended; NULL where it did not';
COMMENT ON COLUMN softlock.history.units IS 'how many of the resource''s units the lock took';
COMMENT ON INDEX softlock.history_pkey IS 'finds the oldest rows';
COMMENT ON INDEX softlock.history_resource_idx IS 'finds what has become of a resource, in order';
COMMENT ON POLICY monitor ON softlock.history IS 'who monitors may see all of it';

-- A role sees what became of locks that it might have ended itself. A role that has been dropped is
-- nobody's.
CREATE VIEW @extschema@.softlock_history WITH (security_barrier) AS
SELECT h.id, h.at, h.event, h.resource, h.owner, h.session, h.token, h.role, h.actor, h.reason, h.held,
       h.units
FROM softlock.history AS h
WHERE (SELECT pg_catalog.bool_or(pg_catalog.pg_has_role(r.oid, 'USAGE')) FROM pg_catalog.pg_roles AS r
       WHERE r.rolname OPERATOR(pg_catalog.=) ANY ('{pg_monitor,pg_database_owner}'))
   OR pg_catalog.pg_has_role(h.role, 'USAGE');

COMMENT ON VIEW @extschema@.softlock_history IS
    'what has become of the locks of the reader''s roles; of all of them for pg_monitor and the database''s owner';
COMMENT ON COLUMN @extschema@.softlock_history.id IS 'number of the row, larger than those before it';
COMMENT ON COLUMN @extschema@.softlock_history.at IS 'when it happened, or was found out';
COMMENT ON COLUMN @extschema@.softlock_history.event IS
    'granted, renewed, moved, released, consumed, broken or lapsed';
COMMENT ON COLUMN @extschema@.softlock_history.resource IS 'what was locked';
COMMENT ON COLUMN @extschema@.softlock_history.owner IS 'who held it';
COMMENT ON COLUMN @extschema@.softlock_history.session IS 'the owner''s session, as a cart id';
COMMENT ON COLUMN @extschema@.softlock_history.token IS 'fencing token of the lock';
COMMENT ON COLUMN @extschema@.softlock_history.role IS 'the database role that took the lock';
COMMENT ON COLUMN @extschema@.softlock_history.actor IS 'name of the database role that did it, as it was then';
COMMENT ON COLUMN @extschema@.softlock_history.reason IS 'why the lock was broken';
COMMENT ON COLUMN @extschema@.softlock_history.held IS
    'how long the lock had been held when it ended; NULL where it did not';
COMMENT ON COLUMN @extschema@.softlock_history.units IS 'how many of the resource''s units the lock took';

-- The tables that softlock sweeps for others: shops that keep their lock columns. Written by
-- softlock_adopt and softlock_disown, and by who restores a dump.
CREATE TABLE softlock.adopted (
    relation       regclass NOT NULL,
    expires_column text NOT NULL,
    clears         text[] NOT NULL,
    condition      text,
    label          text,
    time_zone      text,
    row_type       oid NOT NULL,
    adopted_by     oid NOT NULL,
    adopted_at     timestamptz NOT NULL,
    failed_at      timestamptz,
    last_error     text,
    CONSTRAINT adopted_pkey PRIMARY KEY (relation)
) USING heap;

-- What is in a row runs as the owner of its table. So who puts one in, as the owner of the database does
-- who restores a dump, must have that role's privileges, and is held to have adopted the table: a sweep
-- asks again. Row security would not do, as it does not go with COPY.
CREATE FUNCTION softlock.adopted_insert() RETURNS trigger
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
    its record;
BEGIN
    SELECT c.relowner, c.reltype INTO its
    FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) NEW.relation;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no table to adopt' USING ERRCODE = '42P01';
    END IF;
    IF NOT pg_catalog.pg_has_role(current_user, its.relowner, 'USAGE') THEN
        RAISE EXCEPTION 'must be owner of table %', NEW.relation USING ERRCODE = '42501';
    END IF;
    NEW.row_type := its.reltype;
    NEW.adopted_by := (SELECT r.oid FROM pg_catalog.pg_roles AS r
                       WHERE r.rolname OPERATOR(pg_catalog.=) current_user);
    NEW.failed_at := NULL;
    NEW.last_error := NULL;
    RETURN NEW;
END
$$;
CREATE TRIGGER adopted_insert BEFORE INSERT ON softlock.adopted
    FOR EACH ROW EXECUTE FUNCTION softlock.adopted_insert();
ALTER TABLE softlock.adopted ENABLE ALWAYS TRIGGER adopted_insert;

-- What has been dropped since is not dumped: its number may mean another table where that is restored.
SELECT pg_catalog.pg_extension_config_dump('softlock.adopted',
    'WHERE EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE (c.oid, c.reltype) = (relation, row_type))');

COMMENT ON TABLE softlock.adopted IS
    'a row per table whose own lock columns the sweeps clear; written by softlock_adopt and softlock_disown';
COMMENT ON COLUMN softlock.adopted.relation IS 'the table';
COMMENT ON COLUMN softlock.adopted.expires_column IS 'the column that says when a hold lapses; cleared with it';
COMMENT ON COLUMN softlock.adopted.clears IS 'the other columns that are set to NULL when it has lapsed';
COMMENT ON COLUMN softlock.adopted.condition IS 'which rows are looked at, as an expression of SQL; NULL for all';
COMMENT ON COLUMN softlock.adopted.label IS 'the column that names a row in answers and in the log, or NULL';
COMMENT ON COLUMN softlock.adopted.time_zone IS
    'where the expiry is a timestamp without time zone: the zone that it is in; else NULL';
COMMENT ON COLUMN softlock.adopted.row_type IS
    'number of the table''s row type, which tells it from a later table of the same number';
COMMENT ON COLUMN softlock.adopted.adopted_by IS
    'number of the role that adopted it, which must have the privileges of the table''s owner at each sweep';
COMMENT ON COLUMN softlock.adopted.adopted_at IS 'when it was adopted, or its adoption last changed';
COMMENT ON COLUMN softlock.adopted.failed_at IS 'since when it can''t be swept; NULL when it can';
COMMENT ON COLUMN softlock.adopted.last_error IS 'why it could not be swept at first';
COMMENT ON INDEX softlock.adopted_pkey IS 'finds a table''s adoption';
COMMENT ON FUNCTION softlock.adopted_insert() IS
    'lets nobody adopt a table without the privileges of its owner, and notes who it was';
COMMENT ON TRIGGER adopted_insert ON softlock.adopted IS
    'lets nobody adopt a table without the privileges of its owner, and notes who it was';

CREATE FUNCTION @extschema@.softlock_adopt(
    "relation" regclass, "expires_column" text, "clears" text[] DEFAULT '{}', "condition" text DEFAULT NULL, "label" text DEFAULT NULL
) RETURNS jsonb COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', 'softlock_adopt_v2_wrapper';
CREATE FUNCTION @extschema@.softlock_disown(
    "relation" regclass
) RETURNS jsonb COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', 'softlock_disown_v2_wrapper';
COMMENT ON FUNCTION @extschema@.softlock_adopt(regclass, text, text[], text, text) IS
    'have the sweeps clear the lapsed holds in a table''s own columns; adopted again, it is changed';
COMMENT ON FUNCTION @extschema@.softlock_disown(regclass) IS
    'leave a table''s own columns alone again';

-- What is counted, and whether everything is as it should be.
CREATE FUNCTION softlock.statistics(
    OUT datid oid, OUT grants bigint, OUT renewals bigint, OUT moves bigint, OUT held bigint,
    OUT contended bigint, OUT quota bigint, OUT releases bigint, OUT consumes bigint,
    OUT consume_failures bigint, OUT breaks bigint, OUT guard_refusals bigint, OUT waits bigint,
    OUT wait_timeouts bigint, OUT wait_time double precision, OUT stats_reset timestamptz
) RETURNS SETOF record
LANGUAGE c AS 'MODULE_PATHNAME', 'softlock_statistics_rows_wrapper';
CREATE FUNCTION softlock.sweep_statistics(
    OUT datid oid, OUT sweeps bigint, OUT swept bigint, OUT sweep_time double precision,
    OUT last_sweep timestamptz, OUT last_swept bigint, OUT failed bigint, OUT last_failed timestamptz,
    OUT last_error text, OUT next_sweep timestamptz, OUT stats_reset timestamptz
) RETURNS SETOF record
LANGUAGE c AS 'MODULE_PATHNAME', 'softlock_sweep_statistics_rows_wrapper';
CREATE FUNCTION @extschema@.pg_stat_softlock_reset() RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', 'softlock_statistics_reset_wrapper';
CREATE FUNCTION @extschema@.softlock_check() RETURNS TABLE ("name" text, "ok" boolean, "advice" text)
COST 10000 LANGUAGE c AS 'MODULE_PATHNAME', 'softlock_check_rows_wrapper';

CREATE VIEW @extschema@.pg_stat_softlock AS
SELECT s.datid, d.datname, s.grants, s.renewals, s.moves, s.held, s.contended, s.quota, s.releases, s.consumes,
       s.consume_failures, s.breaks, s.guard_refusals, s.waits, s.wait_timeouts, s.wait_time, s.stats_reset
FROM softlock.statistics() AS s
JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) s.datid;

CREATE VIEW @extschema@.pg_stat_softlock_sweep AS
SELECT s.datid, d.datname, s.sweeps, s.swept, s.sweep_time, s.last_sweep, s.last_swept, s.failed, s.last_failed,
       s.last_error, s.next_sweep, s.stats_reset
FROM softlock.sweep_statistics() AS s
JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) s.datid;

COMMENT ON VIEW @extschema@.pg_stat_softlock IS
    'what calls have come to, a row per database (1024 at most), counted when it was decided, rolled back or not, since the server started';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.datid IS 'the database';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.datname IS 'its name';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.grants IS 'locks granted, each of a cart';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.renewals IS 'locks prolonged, by renew or by taking again what one holds';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.moves IS 'locks that went to another session or owner';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.held IS 'refusals since somebody else held it, each of a cart';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.contended IS 'refusals since somebody was taking it or ending a lock on it, each of a cart';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.quota IS 'refusals since the owner had as many of the kind as it may have';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.releases IS 'locks given back';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.consumes IS 'locks ended by a sale, each of a cart';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.consume_failures IS 'calls of consume that were refused (SL001)';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.breaks IS 'locks broken';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.guard_refusals IS 'writes that softlock_guard refused (SL002, SL003)';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.waits IS 'calls of acquire that had to wait and were answered';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.wait_timeouts IS 'those of them that waited in vain';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.wait_time IS 'how long they waited, in milliseconds';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.stats_reset IS 'since when this is counted: the first call since the server started, or the last reset';

COMMENT ON VIEW @extschema@.pg_stat_softlock_sweep IS
    'what sweeps have come to, the worker''s and softlock_sweep''s, a row per database (1024 at most), since the server started';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.datid IS 'the database';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.datname IS 'its name';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.sweeps IS 'sweeps that came to their end';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.swept IS 'expired locks deleted';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.sweep_time IS 'how long that took, in milliseconds';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.last_sweep IS 'when a sweep last came to its end';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.last_swept IS 'how many locks that one deleted';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.failed IS 'sweeps of the worker that failed';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.last_failed IS 'when one failed last';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.last_error IS 'why, in at most 511 bytes';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.next_sweep IS 'when the worker begins with the next sweeps; NULL while softlock.sweep_interval is 0';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.stats_reset IS 'since when this is counted: the first call since the server started, or the last reset';

COMMENT ON FUNCTION softlock.statistics() IS 'the rows of pg_stat_softlock, without the databases'' names';
COMMENT ON FUNCTION softlock.sweep_statistics() IS 'the rows of pg_stat_softlock_sweep, without the databases'' names';
COMMENT ON FUNCTION @extschema@.pg_stat_softlock_reset() IS
    'count anew what pg_stat_softlock and pg_stat_softlock_sweep show of this database';
COMMENT ON FUNCTION @extschema@.softlock_check() IS
    'whether everything is as it should be: a row per check, with what to do where ok is false, or NULL for another check''s sake';

--
-- Who may do what
--

-- Whoever updates, what is new is of who installed; what is made anew, of whose it was.
DO $$
DECLARE
    statement text;
BEGIN
    FOREACH statement IN ARRAY ARRAY(
        SELECT format('ALTER %s %s OWNER TO %s', o.kind, o.name, coalesce(b.owner, l.relowner)::regrole)
        FROM softlock.object AS o
        LEFT JOIN softlock.object_before AS b ON b.called = o.called
        JOIN pg_class AS l ON l.oid = 'softlock.locks'::regclass
        WHERE o.oid NOT IN (SELECT oid FROM softlock.object_before WHERE class = o.class)
    )
    LOOP
        EXECUTE statement;
    END LOOP;

    -- What default privileges have granted is taken back: all of it on what is new, also what PostgreSQL
    -- grants everyone on a function; on what was there, what lets somebody write, and what the extension's
    -- own record says was there from the beginning.
    FOREACH statement IN ARRAY ARRAY(
        SELECT format('REVOKE %s ON %s %s FROM %s CASCADE', a.privilege_type, o.kind, o.name,
                      CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)
        FROM softlock.object AS o
        LEFT JOIN softlock.object_before AS b ON (b.class, b.oid) = (o.class, o.oid)
        CROSS JOIN aclexplode(o.acl) AS a
        WHERE a.grantee <> o.owner
          AND (b.oid IS NULL
               OR a.privilege_type NOT IN ('SELECT', 'USAGE', 'EXECUTE')
               OR (o.kind, a.privilege_type) = ('SEQUENCE', 'USAGE')
               OR a.grantee <> 'pg_monitor'::regrole
                  AND EXISTS (SELECT FROM aclexplode(b.initprivs) AS g
                              WHERE (g.grantee, g.privilege_type) = (a.grantee, a.privilege_type)))
    )
    LOOP
        EXECUTE statement;
    END LOOP;

    -- What is made anew is for those who were allowed to call it; and everyone's right to a verb is written
    -- out now, where it has not been revoked.
    FOREACH statement IN ARRAY ARRAY(
        SELECT format('GRANT EXECUTE ON FUNCTION %s TO %s %s', o.name,
                      CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
                      CASE WHEN bool_or(a.is_grantable) THEN 'WITH GRANT OPTION' END)
        FROM softlock.object AS o
        JOIN softlock.object_before AS b ON b.called = o.called
        CROSS JOIN aclexplode(b.acl) AS a
        WHERE o.kind = 'FUNCTION' AND a.grantee <> b.owner AND (a.grantee = 0 OR o.oid <> b.oid)
        GROUP BY o.name, a.grantee
    )
    LOOP
        EXECUTE statement;
    END LOOP;
END
$$;

-- Everyone.
GRANT EXECUTE ON FUNCTION
    @extschema@.softlock_acquire_any(text[], text, integer, interval, text, jsonb),
    @extschema@.softlock_renew_all(text, text, interval),
    @extschema@.softlock_transfer(text[], text, text, text, bigint[]),
    @extschema@.softlock_adopt(regclass, text, text[], text, text),
    @extschema@.softlock_disown(regclass)
TO PUBLIC;
GRANT SELECT ON @extschema@.softlock_history TO PUBLIC;

-- Who monitors.
GRANT USAGE ON SCHEMA softlock TO pg_monitor;
GRANT SELECT (resource, owner, session, role, metadata, acquired_at, expires_at, units) ON softlock.locks TO pg_monitor;
GRANT SELECT ON softlock.history, softlock.policies, softlock.adopted TO pg_monitor;
GRANT EXECUTE ON FUNCTION @extschema@.softlock_pending(), softlock.pending(), @extschema@.softlock_check() TO pg_monitor;
GRANT EXECUTE ON FUNCTION softlock.statistics(), softlock.sweep_statistics() TO pg_read_all_stats;
GRANT SELECT ON @extschema@.pg_stat_softlock, @extschema@.pg_stat_softlock_sweep TO pg_read_all_stats;

-- The owner of the database; the role is there from PostgreSQL 14 on.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'pg_database_owner') THEN
        GRANT USAGE ON SCHEMA softlock TO pg_database_owner;
        GRANT EXECUTE ON FUNCTION @extschema@.softlock_sweep(integer), @extschema@.softlock_break(text, text),
            @extschema@.softlock_break_all(text, text, text, interval, text), @extschema@.softlock_pending(),
            softlock.pending(), @extschema@.softlock_check() TO pg_database_owner;
        GRANT SELECT, INSERT, UPDATE, DELETE ON softlock.policies TO pg_database_owner;
        GRANT SELECT, INSERT ON softlock.adopted TO pg_database_owner;
        GRANT SELECT ON @extschema@.softlock_active TO pg_database_owner;
    END IF;
END
$$;

--
-- What pg_dump is to know
--

-- The position of the tokens becomes the floor of the clock, which is far ahead of it. What is drawn
-- from a clock is not dumped: only leaving the extension takes a sequence off the list of what is.
ALTER EXTENSION softlock DROP SEQUENCE softlock.token;
ALTER EXTENSION softlock ADD SEQUENCE softlock.token;

-- pg_dump dumps the privileges that differ from those which the extension's script gave. Here the server
-- has taken down, as if the script had given them, also those of a DBA, on each object that the script
-- granted something on; a dump would lose them. So what is on record is what a fresh installation gives; on
-- what is new that is what the script gave, as nobody else could.
UPDATE pg_init_privs AS i
SET initprivs = (
    SELECT array_agg(item ORDER BY place)
    FROM (
        SELECT item, 0 AS place FROM unnest(acldefault(o.type, o.owner)) AS item
        WHERE o.for_everyone OR item::text NOT LIKE '=%'
        UNION ALL
        SELECT format('%I=%s/%I', r.rolname, o.privilege, pg_get_userbyid(o.owner))::aclitem, role.place
        FROM unnest(o.roles) WITH ORDINALITY AS role (name, place) JOIN pg_roles AS r ON r.rolname = role.name
    ) AS given
)
FROM (
    -- A verb that is not listed is everyone's.
    SELECT o.class, o.oid, 0 AS part, o.type, o.owner, n.roles IS NULL AS for_everyone,
           CASE o.kind WHEN 'SCHEMA' THEN 'U' WHEN 'FUNCTION' THEN 'X' ELSE 'r' END AS privilege,
           n.roles::text[] AS roles
    FROM softlock.object AS o
    JOIN softlock.object_before AS b ON b.called = o.called
    LEFT JOIN (VALUES ('softlock', '{pg_monitor,pg_database_owner}'),
                      ('softlock.token', '{}'),
                      ('softlock.locks', '{}'),
                      ('softlock.check_preload', '{}'),
                      ('@extschema@.softlock_active', '{pg_monitor,pg_database_owner}'),
                      ('@extschema@.softlock_sweep', '{pg_database_owner}'),
                      ('@extschema@.softlock_break', '{pg_database_owner}')) AS n (called, roles) ON n.called = o.called
    UNION ALL
    SELECT 'pg_class'::regclass, c.oid, a.attnum, 'c', c.relowner, false, 'r', '{pg_monitor}'
    FROM pg_class AS c
    JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname NOT IN ('token', 'slot', 'version')
    WHERE c.oid = 'softlock.locks'::regclass
) AS o
WHERE (i.classoid, i.objoid, i.objsubid) = (o.class, o.oid, o.part);
-- From 17 on it has also noted that the roles of those grants can't be dropped because of them.
DELETE FROM pg_shdepend AS s
USING pg_database AS d, pg_init_privs AS i, softlock.object AS o
WHERE s.deptype = 'i' AND (s.dbid, d.datname) = (d.oid, current_database())
  AND (s.classid, s.objid) = (o.class, o.oid)
  AND (i.classoid, i.objoid, i.objsubid) = (s.classid, s.objid, s.objsubid)
  AND s.refobjid NOT IN (SELECT unnest(ARRAY[grantee, grantor]) FROM aclexplode(i.initprivs));

DROP VIEW softlock.object;
DROP TABLE softlock.object_before;
