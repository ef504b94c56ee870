-- Who makes others contended. The transactions are named by pg_stat_activity and pg_prepared_xacts.
CREATE FUNCTION softlock_pending(
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

COMMENT ON FUNCTION softlock_acquire(text, text, interval, text, jsonb, interval, integer, integer) IS
    'take a resource for an owner, prolong the owner''s hold on it, or say who has it';
COMMENT ON FUNCTION softlock_acquire_many(text[], text, interval, text, jsonb, integer[], integer[]) IS
    'take a whole cart for an owner, all or nothing, or list every conflict';
COMMENT ON FUNCTION softlock_acquire_any(text[], text, integer, interval, text, jsonb) IS
    'take the first of a list of resources that can be had, or several of them, or list every conflict';
COMMENT ON FUNCTION softlock_renew_all(text, text, interval) IS
    'prolong an owner''s live locks, or those of one session, in one call';
COMMENT ON FUNCTION softlock_transfer(text[], text, text, text, bigint[]) IS
    'hand locks over to another owner, all or none, with new tokens';
COMMENT ON FUNCTION softlock_break_all(text, text, text, interval, text) IS
    'free the live locks of an owner, a session, a kind or of long ago, and log who did it and why';
COMMENT ON FUNCTION softlock_renew(text, text, interval, bigint) IS
    'prolong the caller''s live lock; never shortens it';
COMMENT ON FUNCTION softlock_release(text, text, bigint) IS
    'free the caller''s live lock; asking again is harmless';
COMMENT ON FUNCTION softlock_release_all(text, text) IS
    'free the caller''s live locks, or those of one session';
COMMENT ON FUNCTION softlock_consume(text[], text, bigint[]) IS
    'end the caller''s holds in the transaction that sells, or raise an error so that it can''t';
COMMENT ON FUNCTION softlock_break(text, text) IS
    'free anybody''s live lock, and log who broke whose and why';
COMMENT ON FUNCTION softlock_guard() IS
    'BEFORE INSERT OR UPDATE OR DELETE row trigger: refuse to write a row that somebody else holds; arguments: prefix, key column [, require]';
COMMENT ON FUNCTION softlock_sweep(integer) IS
    'delete expired locks, oldest first, skipping rows locked by others; the background worker does the same';
COMMENT ON FUNCTION softlock_adopt(regclass, text, text[], text, text) IS
    'have the sweeps clear the lapsed holds in a table''s own columns; adopted again, it is changed';
COMMENT ON FUNCTION softlock_disown(regclass) IS
    'leave a table''s own columns alone again';
COMMENT ON FUNCTION softlock_status(text[], text) IS
    'a row per resource asked about, in that order: who holds it, until when, whether it is the given owner, and who is taking it';
COMMENT ON FUNCTION softlock_pending() IS
    'what uncommitted transactions are taking or ending, who makes others contended, and since when';
COMMENT ON FUNCTION softlock.pending() IS
    'the rows of softlock_pending, with the transaction instead of its session';
COMMENT ON FUNCTION softlock.check_preload() IS
    'warn when the server has not preloaded softlock, so that nothing sweeps by itself';

-- Who may do what, whatever the default privileges are where the extension is created: everything that
-- they have granted on its objects is taken back first.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        WITH member AS (
            SELECT d.classid, d.objid FROM pg_catalog.pg_depend AS d
            WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
              AND d.deptype OPERATOR(pg_catalog.=) 'e'
              AND d.refobjid OPERATOR(pg_catalog.=) (SELECT e.oid FROM pg_catalog.pg_extension AS e
                                                     WHERE e.extname OPERATOR(pg_catalog.=) 'softlock')
        ), object AS (
            SELECT CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind,
                   c.oid::pg_catalog.regclass::pg_catalog.text AS name, c.relowner AS owner, c.relacl AS acl
            FROM pg_catalog.pg_class AS c
            JOIN member AS m ON m.objid OPERATOR(pg_catalog.=) c.oid
                AND m.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
            WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,v,S}')
            UNION ALL
            SELECT 'FUNCTION', p.oid::pg_catalog.regprocedure::pg_catalog.text, p.proowner, p.proacl
            FROM pg_catalog.pg_proc AS p
            JOIN member AS m ON m.objid OPERATOR(pg_catalog.=) p.oid
                AND m.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
            UNION ALL
            SELECT 'SCHEMA', n.oid::pg_catalog.regnamespace::pg_catalog.text, n.nspowner, n.nspacl
            FROM pg_catalog.pg_namespace AS n
            JOIN member AS m ON m.objid OPERATOR(pg_catalog.=) n.oid
                AND m.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
        )
        SELECT DISTINCT o.kind, o.name,
               CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                    ELSE a.grantee::pg_catalog.regrole::pg_catalog.text END AS grantee
        FROM object AS o, LATERAL pg_catalog.aclexplode(o.acl) AS a
        WHERE a.grantee OPERATOR(pg_catalog.<>) o.owner
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %s', granted.kind, granted.name, granted.grantee);
    END LOOP;
END
$$;

-- Everyone.
GRANT EXECUTE ON FUNCTION
    softlock_acquire(text, text, interval, text, jsonb, interval, integer, integer),
    softlock_acquire_many(text[], text, interval, text, jsonb, integer[], integer[]),
    softlock_acquire_any(text[], text, integer, interval, text, jsonb),
    softlock_renew(text, text, interval, bigint),
    softlock_renew_all(text, text, interval),
    softlock_transfer(text[], text, text, text, bigint[]),
    softlock_release(text, text, bigint),
    softlock_release_all(text, text),
    softlock_consume(text[], text, bigint[]),
    softlock_status(text[], text),
    softlock_guard(),
    softlock_adopt(regclass, text, text[], text, text), softlock_disown(regclass)
TO PUBLIC;
GRANT SELECT ON @extschema@.softlock_history TO PUBLIC;

-- Sweeping is harmless, but its report names resources of every owner.
REVOKE ALL ON FUNCTION
    softlock_sweep(integer), softlock_break(text, text), softlock_break_all(text, text, text, interval, text),
    softlock_pending(), softlock.pending(), softlock.check_preload(), softlock.policies_changed(),
    softlock.adopted_insert(), softlock.statistics(), softlock.sweep_statistics(), pg_stat_softlock_reset(),
    softlock_check()
FROM PUBLIC;

-- Who monitors.
GRANT USAGE ON SCHEMA softlock TO pg_monitor;
GRANT SELECT ON @extschema@.softlock_active TO pg_monitor;
GRANT SELECT (resource, owner, session, role, metadata, acquired_at, expires_at, units) ON softlock.locks TO pg_monitor;
GRANT SELECT ON softlock.history, softlock.policies TO pg_monitor;
GRANT EXECUTE ON FUNCTION softlock_pending(), softlock.pending(), softlock_check() TO pg_monitor;
GRANT EXECUTE ON FUNCTION softlock.statistics(), softlock.sweep_statistics() TO pg_read_all_stats;
GRANT SELECT ON @extschema@.pg_stat_softlock, @extschema@.pg_stat_softlock_sweep TO pg_read_all_stats;
GRANT SELECT ON softlock.adopted TO pg_monitor;

-- The owner of the database, who need be no superuser; the role is there from PostgreSQL 14 on.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) 'pg_database_owner') THEN
        GRANT USAGE ON SCHEMA softlock TO pg_database_owner;
        GRANT EXECUTE ON FUNCTION softlock_sweep(integer), softlock_break(text, text),
            softlock_break_all(text, text, text, interval, text), softlock_pending(), softlock.pending(),
            softlock_check() TO pg_database_owner;
        GRANT SELECT, INSERT, UPDATE, DELETE ON softlock.policies TO pg_database_owner;
        GRANT SELECT ON @extschema@.softlock_active TO pg_database_owner;
        -- To dump and restore it.
        GRANT SELECT, INSERT ON softlock.adopted TO pg_database_owner;
    END IF;
END
$$;

SELECT softlock.check_preload();
