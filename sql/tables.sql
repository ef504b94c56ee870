-- The locks and their tokens, in a schema of their own. Only the extension's owner writes here: the
-- functions are SECURITY DEFINER. Row-level security without a policy keeps out even
-- pg_write_all_data; it does not apply to the owner.

CREATE SCHEMA softlock;

-- CACHE 1, so that a later grant always draws a larger token.
CREATE SEQUENCE softlock.token AS bigint MINVALUE 1 CACHE 1 NO CYCLE;

CREATE TABLE softlock.locks (
    resource    text COLLATE "C" NOT NULL,
    owner       text COLLATE "C" NOT NULL,
    session     text COLLATE "C",
    token       bigint NOT NULL,
    role        regrole NOT NULL,
    metadata    jsonb,
    acquired_at timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    CONSTRAINT locks_pkey PRIMARY KEY (resource)
);

CREATE INDEX locks_expires_at_idx ON softlock.locks (expires_at);
CREATE INDEX locks_owner_idx ON softlock.locks (owner);

ALTER TABLE softlock.locks ENABLE ROW LEVEL SECURITY;

-- A dump carries the token's position, so that a restored database never issues a token twice; the
-- locks themselves are of the moment and stay behind.
SELECT pg_catalog.pg_extension_config_dump('softlock.token', '');

COMMENT ON SCHEMA softlock IS 'soft locks: the table behind the softlock_* functions';
COMMENT ON SEQUENCE softlock.token IS
    'fencing tokens: every grant draws a larger one, for ever; carried over by pg_dump';
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
COMMENT ON INDEX softlock.locks_pkey IS 'one lock per resource; every look-up goes through it';
COMMENT ON INDEX softlock.locks_expires_at_idx IS 'finds what has lapsed, oldest first';
COMMENT ON INDEX softlock.locks_owner_idx IS 'finds an owner''s locks';
