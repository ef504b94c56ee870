-- Which server keeps a resource. On every server and on the router, all of one encoding, since who moves
-- resources to new servers has to come to the same result as the router:
--     psql -X1 -v ON_ERROR_STOP=1 -f placement.sql -d …

CREATE SCHEMA softlock_router;
COMMENT ON SCHEMA softlock_router IS 'soft locks on several servers: who keeps which';
GRANT USAGE ON SCHEMA softlock_router TO PUBLIC;

CREATE FUNCTION softlock_router.key(resource text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT coalesce(pg_catalog."substring"(resource, '\{([^}]+)\}'), resource, '')
$$;

CREATE FUNCTION softlock_router.hash(resource text) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT pg_catalog.hashtext(softlock_router.key(resource) COLLATE pg_catalog."C")
$$;

COMMENT ON FUNCTION softlock_router.key(text) IS
    'resources of one key are kept by one server, however many there are: what stands in braces, else all of it';
COMMENT ON FUNCTION softlock_router.hash(text) IS
    'the server that keeps a resource is this, modulo the number of servers';
