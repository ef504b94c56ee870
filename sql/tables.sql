-- The locks and what goes with them, in the schema softlock. Only the extension's owner, a superuser,
-- writes here, and below SQL: the functions need no rights of their own. Row-level security keeps out
-- even pg_write_all_data; it does not apply to the owner.

-- The schema may be there already when the extension is to live in it, or when the one who installs
-- had made it; not when it is somebody else's, who could then drop what is in it.
DO $$
DECLARE
    its_owner oid;
BEGIN
    SELECT nspowner INTO its_owner FROM pg_catalog.pg_namespace
    WHERE nspname OPERATOR(pg_catalog.=) 'softlock';
    IF NOT FOUND THEN
        CREATE SCHEMA softlock;
        COMMENT ON SCHEMA softlock IS 'soft locks: the table behind the softlock_* functions';
    ELSIF its_owner OPERATOR(pg_catalog.<>) '@extowner@'::pg_catalog.regrole THEN
        RAISE EXCEPTION 'schema "softlock" belongs to somebody else'
            USING ERRCODE = '42501',
                  DETAIL = pg_catalog.format('Its owner is %s.', its_owner::pg_catalog.regrole),
                  HINT = 'Rename it, or let its owner install the extension.';
    END IF;
END
$$;

-- The floor of the clock that versions and tokens are drawn from, in microseconds since 1970: all that
-- were drawn are at or below it. It only rises, whatever is rolled back.
-- None is above 2^53, so that JSON readers keep them.
CREATE SEQUENCE softlock.token AS bigint MINVALUE 1 MAXVALUE 9007199254740991 CACHE 1 NO CYCLE;
-- Up to where the worker's sweeps have come, in microseconds since 1970: what lapsed before is gone.
CREATE SEQUENCE softlock.swept AS bigint MINVALUE 1 CACHE 1 NO CYCLE;

CREATE TABLE softlock.locks (
    resource    text COLLATE "C" NOT NULL,
    owner       text COLLATE "C" NOT NULL,
    session     text COLLATE "C",
    token       bigint NOT NULL,
    role        regrole NOT NULL,
    metadata    jsonb,
    acquired_at timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    slot        integer NOT NULL,
    version     bigint NOT NULL,
    units       integer NOT NULL,
    CONSTRAINT locks_pkey PRIMARY KEY (resource, slot, version)
) USING heap
-- A truncation would cancel a standby's readers.
WITH (vacuum_truncate = off, toast.vacuum_truncate = off);

CREATE INDEX locks_expires_at_idx ON softlock.locks (expires_at);
CREATE INDEX locks_owner_idx ON softlock.locks (owner, expires_at);

ALTER TABLE softlock.locks ENABLE ROW LEVEL SECURITY;
CREATE POLICY monitor ON softlock.locks FOR SELECT TO pg_monitor USING (true);

COMMENT ON SEQUENCE softlock.token IS
    'floor of the clock that fencing tokens are drawn from, in microseconds since 1970; only rises';
COMMENT ON SEQUENCE softlock.swept IS
    'up to where the worker has swept, in microseconds since 1970';
COMMENT ON TABLE softlock.locks IS
    'a row per lock, live or lapsed and not yet swept; written by the softlock_* functions only';
COMMENT ON COLUMN softlock.locks.resource IS 'what is locked: 1 to 1024 bytes, by convention kind:id';
COMMENT ON COLUMN softlock.locks.owner IS 'who holds it, the application''s user: 1 to 256 bytes';
COMMENT ON COLUMN softlock.locks.session IS 'groups an owner''s locks, as a cart id: 1 to 256 bytes or NULL';
COMMENT ON COLUMN softlock.locks.token IS 'fencing token of this grant; a later grant of the resource has a larger one';
COMMENT ON COLUMN softlock.locks.role IS 'the database role that took the lock; it and its members may renew and release';
COMMENT ON COLUMN softlock.locks.metadata IS 'what people see about the hold: a JSON object of at most 8 KiB, or NULL';
COMMENT ON COLUMN softlock.locks.acquired_at IS 'when the lock was granted; a renewal does not change it';
COMMENT ON COLUMN softlock.locks.expires_at IS 'when the lock lapses: it is live while this is later than clock_timestamp()';
COMMENT ON COLUMN softlock.locks.slot IS 'which of the resource''s holds this is; 0 where there can only be one';
COMMENT ON COLUMN softlock.locks.version IS 'larger with every write of the resource; the newest committed one counts';
COMMENT ON COLUMN softlock.locks.units IS 'how many of the resource''s units the hold takes; 1 where there is only one';
COMMENT ON INDEX softlock.locks_pkey IS 'finds the newest version of a resource''s lock';
COMMENT ON INDEX softlock.locks_expires_at_idx IS 'finds what has lapsed, oldest first';
COMMENT ON INDEX softlock.locks_owner_idx IS 'finds an owner''s live locks';
COMMENT ON POLICY monitor ON softlock.locks IS 'who monitors may see what has lapsed and is not swept';
