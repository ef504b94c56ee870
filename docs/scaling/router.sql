-- The router: softlock's calls by name and signature, each carried out by the server that keeps the
-- resource. For a database that does not have softlock, on a server with softlock.serve = off:
--     CREATE EXTENSION plproxy;
--     CREATE SERVER softlock FOREIGN DATA WRAPPER plproxy
--         OPTIONS (p0 'host=one dbname=shop', p1 'host=two dbname=shop');   -- a power of two
--     psql -X1 -v ON_ERROR_STOP=1 -f placement.sql -f router.sql -d …
--
-- Each server is asked as the role that calls, and itself decides what that role may do.

CREATE USER MAPPING FOR PUBLIC SERVER softlock;
GRANT USAGE ON FOREIGN SERVER softlock TO PUBLIC;

-- What is about resources of one key goes to one server, where it is all or nothing. Each server commits
-- by itself, so that nothing could be over several.
CREATE FUNCTION softlock_router.hash_of_all(resources text[]) RETURNS integer
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    first text;
    other text;
BEGIN
    -- A NULL among them is refused by whichever server it gets to.
    FOREACH other IN ARRAY coalesce(resources, '{}') LOOP
        first := coalesce(first, other);
        CONTINUE WHEN other IS NULL OR softlock_router.key(other) OPERATOR(pg_catalog.=) softlock_router.key(first);
        RAISE EXCEPTION 'resources of one call are of different keys'
            USING ERRCODE = '0A000',
                  DETAIL = format('The key of "%s" is "%s", that of "%s" is "%s".', first,
                                  softlock_router.key(first), other, softlock_router.key(other)),
                  HINT = 'What is to be taken together has the same text in braces, as "seat:{concert-9}:12".';
    END LOOP;
    RETURN softlock_router.hash(first);
END
$$;

CREATE FUNCTION softlock_router.hash_of_given(resources text[]) RETURNS integer
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    IF resources IS NULL THEN
        RAISE EXCEPTION 'an owner''s locks may be kept by several servers, which can''t hand them over together'
            USING ERRCODE = '0A000', HINT = 'Name the resources, those of one key in a call.';
    END IF;
    RETURN softlock_router.hash_of_all(resources);
END
$$;

-- The lists of several answers as one, in byte order.
CREATE FUNCTION softlock_router.merged(answers jsonb[], list text) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT coalesce(jsonb_agg(e ORDER BY coalesce(e ->> 'resource', e #>> '{}') COLLATE "C"), '[]')
    FROM unnest(answers) AS a, jsonb_array_elements(a -> list) AS e
$$;

CREATE FUNCTION softlock_router.total(answers jsonb[], count text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT sum((a ->> count)::bigint)::bigint FROM unnest(answers) AS a
$$;

-- One resource.

CREATE FUNCTION softlock_acquire(
    resource text, owner text, ttl interval DEFAULT NULL, session text DEFAULT NULL, metadata jsonb DEFAULT NULL,
    wait interval DEFAULT '0', units integer DEFAULT 1, capacity integer DEFAULT 1
) RETURNS jsonb LANGUAGE plproxy AS $$
    CLUSTER 'softlock'; RUN ON softlock_router.hash(resource); TARGET softlock_acquire;
$$;

CREATE FUNCTION softlock_renew(
    resource text, owner text, ttl interval DEFAULT NULL, token bigint DEFAULT NULL
) RETURNS jsonb LANGUAGE plproxy AS $$
    CLUSTER 'softlock'; RUN ON softlock_router.hash(resource); TARGET softlock_renew;
$$;

CREATE FUNCTION softlock_release(
    resource text, owner text, token bigint DEFAULT NULL
) RETURNS jsonb LANGUAGE plproxy AS $$
    CLUSTER 'softlock'; RUN ON softlock_router.hash(resource); TARGET softlock_release;
$$;

CREATE FUNCTION softlock_break(
    resource text, reason text DEFAULT NULL
) RETURNS jsonb LANGUAGE plproxy AS $$
    CLUSTER 'softlock'; RUN ON softlock_router.hash(resource); TARGET softlock_break;
$$;

-- Resources of one key.

CREATE FUNCTION softlock_acquire_many(
    resources text[], owner text, ttl interval DEFAULT NULL, session text DEFAULT NULL,
    metadata jsonb DEFAULT NULL, units integer[] DEFAULT NULL, capacities integer[] DEFAULT NULL
) RETURNS jsonb LANGUAGE plproxy AS $$
    CLUSTER 'softlock'; RUN ON softlock_router.hash_of_all(resources); TARGET softlock_acquire_many;
$$;

CREATE FUNCTION softlock_acquire_any(
    resources text[], owner text, count integer DEFAULT 1, ttl interval DEFAULT NULL, session text DEFAULT NULL,
    metadata jsonb DEFAULT NULL
) RETURNS jsonb LANGUAGE plproxy AS $$
    CLUSTER 'softlock'; RUN ON softlock_router.hash_of_all(resources); TARGET softlock_acquire_any;
$$;

CREATE FUNCTION softlock_transfer(
    resources text[], owner text, new_owner text, session text DEFAULT NULL, tokens bigint[] DEFAULT NULL
) RETURNS jsonb LANGUAGE plproxy AS $$
    CLUSTER 'softlock'; RUN ON softlock_router.hash_of_given(resources); TARGET softlock_transfer;
$$;

-- A hold that ends before the sale has committed, on another server, could be taken and sold in between.
CREATE FUNCTION softlock_consume(
    resources text[], owner text, tokens bigint[] DEFAULT NULL
) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'softlock_consume has to be called in the transaction that sells'
        USING ERRCODE = '0A000',
              HINT = 'Make the checkout a function on the servers that keep the locks and the sales, and call that one here.';
END
$$;

-- All of an owner's, all that have lapsed: every server does its part.

CREATE FUNCTION softlock_router.renew_all(owner text, session text, ttl interval) RETURNS SETOF jsonb
LANGUAGE plproxy AS $$
    CLUSTER 'softlock'; RUN ON ALL; TARGET softlock_renew_all;
$$;

CREATE FUNCTION softlock_renew_all(
    owner text, session text DEFAULT NULL, ttl interval DEFAULT NULL
) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('renewed_count', softlock_router.total(p.answers, 'renewed_count'),
                              'locks', softlock_router.merged(p.answers, 'locks'),
                              'lapsed', softlock_router.merged(p.answers, 'lapsed'))
    FROM (SELECT array_agg(a) AS answers FROM softlock_router.renew_all(owner, session, ttl) AS a) AS p
$$;

CREATE FUNCTION softlock_router.release_all(owner text, session text) RETURNS SETOF jsonb
LANGUAGE plproxy AS $$
    CLUSTER 'softlock'; RUN ON ALL; TARGET softlock_release_all;
$$;

CREATE FUNCTION softlock_release_all(
    owner text, session text DEFAULT NULL
) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('released_count', softlock_router.total(p.answers, 'released_count'),
                              'resources', softlock_router.merged(p.answers, 'resources'))
    FROM (SELECT array_agg(a) AS answers FROM softlock_router.release_all(owner, session) AS a) AS p
$$;

CREATE FUNCTION softlock_router.break_all(
    owner text, session text, prefix text, older_than interval, reason text
) RETURNS SETOF jsonb LANGUAGE plproxy AS $$
    CLUSTER 'softlock'; RUN ON ALL; TARGET softlock_break_all;
$$;

CREATE FUNCTION softlock_break_all(
    owner text DEFAULT NULL, session text DEFAULT NULL, prefix text DEFAULT NULL, older_than interval DEFAULT NULL,
    reason text DEFAULT NULL
) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('broken_count', p.broken_count,
                              'locks', jsonb_path_query_array(softlock_router.merged(p.answers, 'locks'), '$[0 to 999]'))
           || CASE WHEN p.broken_count > 1000 THEN '{"locks_truncated": true}' ELSE '{}' END::jsonb
    FROM (SELECT array_agg(a) AS answers, softlock_router.total(array_agg(a), 'broken_count') AS broken_count
          FROM softlock_router.break_all(owner, session, prefix, older_than, reason) AS a) AS p
$$;

CREATE FUNCTION softlock_router.sweep(server integer, max_rows integer) RETURNS jsonb
LANGUAGE plproxy AS $$
    CLUSTER 'softlock'; RUN ON server; SELECT softlock_sweep(max_rows);
$$;

-- One after the other, as what the first has deleted counts for the others; in any order, so that none is
-- always the last.
CREATE FUNCTION softlock_sweep(max_rows integer DEFAULT NULL) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    answers jsonb[];
    answer jsonb;
    server integer;
    more integer := max_rows;
    affected jsonb;
    released bigint;
BEGIN
    FOR server IN
        SELECT s FROM generate_series(0, softlock_router.servers() - 1) AS s ORDER BY random()
    LOOP
        answer := softlock_router.sweep(server, more);
        answers := answers || answer;
        more := more - (answer ->> 'released_count')::integer;
        EXIT WHEN more = 0;
    END LOOP;
    released := softlock_router.total(answers, 'released_count');
    affected := softlock_router.merged(answers, 'affected');
    -- What all answer alike, as of the last one.
    RETURN answer || jsonb_build_object(
        'released_count', released,
        'affected', jsonb_path_query_array(affected, '$[0 to 999]'),
        'affected_truncated', released > 1000,
        'duration_ms', (SELECT sum((a ->> 'duration_ms')::float8) FROM unnest(answers) AS a))
        || CASE WHEN answer ? 'adopted' THEN jsonb_build_object('adopted', softlock_router.merged(answers, 'adopted'))
                ELSE '{}' END;
END
$$;

CREATE FUNCTION softlock_router.servers() RETURNS integer LANGUAGE sql STABLE
AS $$
    SELECT count(*)::integer FROM pg_foreign_server AS s, unnest(s.srvoptions) AS option
    WHERE s.srvname = 'softlock' AND option ~ '^p?[0-9]+='
$$;

-- What is held. The names of roles, as their numbers are different ones on each server.

CREATE FUNCTION softlock_router.status(resources text[], owner text) RETURNS TABLE (
    resource text, is_locked boolean, locked_by_me boolean, owner text, session text, metadata jsonb,
    acquired_at timestamptz, expires_at timestamptz, remaining interval, pending_owner text,
    pending_pid integer, units integer
) LANGUAGE plproxy AS $$
    CLUSTER 'softlock'; SPLIT resources; RUN ON softlock_router.hash(resources); TARGET softlock_status;
$$;

CREATE FUNCTION softlock_router.given(resources text[]) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    IF resources IS NULL THEN
        RAISE EXCEPTION 'resources must not be null' USING ERRCODE = '22004';
    END IF;
    RETURN resources;
END
$$;

CREATE FUNCTION softlock_status(resources text[], owner text DEFAULT NULL) RETURNS TABLE (
    resource text, is_locked boolean, locked_by_me boolean, owner text, session text, metadata jsonb,
    acquired_at timestamptz, expires_at timestamptz, remaining interval, pending_owner text,
    pending_pid integer, units integer
) LANGUAGE sql AS $$
    SELECT s.* FROM unnest(softlock_router.given($1)) WITH ORDINALITY AS asked (resource, place)
    LEFT JOIN softlock_router.status(ARRAY(SELECT DISTINCT unnest($1)), $2) AS s ON s.resource = asked.resource COLLATE "C"
    ORDER BY asked.place
$$;

CREATE FUNCTION softlock_router.active() RETURNS TABLE (
    resource text, owner text, session text, role text, metadata jsonb, acquired_at timestamptz,
    expires_at timestamptz, remaining interval, units integer
) LANGUAGE plproxy AS $$
    CLUSTER 'softlock'; RUN ON ALL;
    SELECT a.resource, a.owner, a.session, a.role::text, a.metadata, a.acquired_at, a.expires_at, a.remaining, a.units
    FROM softlock_active AS a;
$$;

CREATE VIEW softlock_active AS SELECT * FROM softlock_router.active();
GRANT SELECT ON softlock_active TO PUBLIC;

CREATE FUNCTION softlock_pending() RETURNS TABLE (
    resource text, owner text, role text, doing text, pid integer, gid text, since timestamptz
) LANGUAGE plproxy AS $$
    CLUSTER 'softlock'; RUN ON ALL;
    SELECT p.resource, p.owner, p.role::text, p.doing, p.pid, p.gid, p.since FROM softlock_pending() AS p;
$$;
