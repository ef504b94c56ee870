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
