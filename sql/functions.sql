COMMENT ON FUNCTION softlock_acquire(text, text, interval, text, jsonb, interval) IS
    'take a resource for an owner, prolong the owner''s hold on it, or say who has it';
COMMENT ON FUNCTION softlock_acquire_many(text[], text, interval, text, jsonb) IS
    'take a whole cart for an owner, all or nothing, or list every conflict';
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
    'BEFORE UPDATE OR DELETE row trigger: refuse to write a row that somebody else holds; arguments: prefix, key column [, require]';
COMMENT ON FUNCTION softlock_sweep(integer) IS
    'delete expired locks, oldest first, skipping rows locked by others; the background worker does the same';
COMMENT ON FUNCTION softlock_status(text[], text) IS
    'a row per resource asked about, in that order: who holds it, until when, and whether it is the given owner';
COMMENT ON FUNCTION softlock.check_preload() IS
    'warn when the server has not preloaded softlock, so that nothing sweeps by itself';

-- Sweeping is harmless, but its report names resources of every owner.
REVOKE ALL ON FUNCTION softlock_sweep(integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION softlock_break(text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION softlock.check_preload() FROM PUBLIC;

GRANT SELECT ON @extschema@.softlock_active TO pg_monitor;

SELECT softlock.check_preload();
