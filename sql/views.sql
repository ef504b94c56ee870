-- The clock is read once per query: all rows are judged by the same boundary, and the index on
-- expires_at can serve.
CREATE VIEW @extschema@.softlock_active AS
SELECT l.resource, l.owner, l.session, l.role, l.metadata, l.acquired_at, l.expires_at,
       l.expires_at OPERATOR(pg_catalog.-) t.now AS remaining, l.units
FROM (SELECT pg_catalog.clock_timestamp() AS now OFFSET 0) AS t
JOIN softlock.locks AS l ON l.expires_at OPERATOR(pg_catalog.>) t.now;

COMMENT ON VIEW @extschema@.softlock_active IS 'the live locks; lapsed ones do not show, swept or not';
COMMENT ON COLUMN @extschema@.softlock_active.resource IS 'what is locked';
COMMENT ON COLUMN @extschema@.softlock_active.owner IS 'who holds it';
COMMENT ON COLUMN @extschema@.softlock_active.session IS 'the owner''s session, as a cart id';
COMMENT ON COLUMN @extschema@.softlock_active.role IS 'the database role that took the lock';
COMMENT ON COLUMN @extschema@.softlock_active.metadata IS 'what people should see about the hold';
COMMENT ON COLUMN @extschema@.softlock_active.acquired_at IS 'when the lock was granted';
COMMENT ON COLUMN @extschema@.softlock_active.expires_at IS 'when the lock lapses by itself';
COMMENT ON COLUMN @extschema@.softlock_active.remaining IS 'time left at the moment of the query';
COMMENT ON COLUMN @extschema@.softlock_active.units IS 'how many of the resource''s units it takes';
