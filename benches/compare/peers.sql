-- What softlock is measured beside, on tables with the columns and indexes that the job asks for. Statements end in a
-- semicolon and an empty line, and have none inside: a server of one process reads them, too.

CREATE EXTENSION softlock;

CREATE TABLE upsert_locks (
    resource    text COLLATE "C" PRIMARY KEY,
    owner       text COLLATE "C" NOT NULL,
    session     text COLLATE "C",
    token       bigint NOT NULL,
    role        regrole NOT NULL,
    metadata    jsonb,
    acquired_at timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL
);

CREATE INDEX ON upsert_locks (expires_at);

CREATE INDEX ON upsert_locks (owner);

CREATE SEQUENCE upsert_token;

CREATE TABLE plpgsql_locks (LIKE upsert_locks INCLUDING INDEXES);

CREATE SEQUENCE plpgsql_token;

CREATE FUNCTION plpgsql_acquire(r text, o text, ttl interval DEFAULT NULL, s text DEFAULT NULL, m jsonb DEFAULT NULL)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    t timestamptz := clock_timestamp();
    won bigint;
BEGIN
    INSERT INTO plpgsql_locks AS l
    VALUES (r, o, s, nextval('plpgsql_token'), current_role::regrole, m, t, t + coalesce(ttl, '30 min'))
    ON CONFLICT (resource) DO UPDATE SET
        owner = excluded.owner,
        token = CASE WHEN l.owner = excluded.owner AND l.expires_at > t THEN l.token ELSE excluded.token END,
        acquired_at = CASE WHEN l.owner = excluded.owner AND l.expires_at > t THEN l.acquired_at ELSE t END,
        expires_at = greatest(l.expires_at, excluded.expires_at)
    WHERE l.owner = excluded.owner OR l.expires_at <= t
    RETURNING l.token INTO won;
    RETURN won;
END $$;

CREATE FUNCTION plpgsql_release(r text, o text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM plpgsql_locks WHERE resource = r AND owner = o AND expires_at > clock_timestamp();
    RETURN FOUND;
END $$;

CREATE FUNCTION plpgsql_holder(r text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    h record;
BEGIN
    SELECT owner, metadata, expires_at INTO h FROM plpgsql_locks WHERE resource = r AND expires_at > clock_timestamp();
    RETURN h.owner || ' ' || h.expires_at;
END $$;

-- What an application has without softlock: its own row for each item, with who has it.
CREATE TABLE reservation (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kit text COLLATE "C" NOT NULL UNIQUE,
    reserved_by text,
    reserved_until timestamptz
);

-- Churn without a client's share: every call is a transaction, and has to succeed. First pairs of free and
-- take, then renewals.
CREATE PROCEDURE churn_softlock(first integer, keys integer, pairs integer, renewals integer DEFAULT 0)
LANGUAGE plpgsql AS $$
DECLARE
    k text;
BEGIN
    FOR i IN 1..pairs LOOP
        k := 'kit:' || first + floor(random() * keys)::integer;
        ASSERT (softlock_release(k, 'anna')->'released')::boolean;
        COMMIT;
        ASSERT (softlock_acquire(k, 'anna')->'acquired')::boolean;
        COMMIT;
    END LOOP;
    FOR i IN 1..renewals LOOP
        k := 'kit:' || first + floor(random() * keys)::integer;
        ASSERT (softlock_acquire(k, 'anna')->'acquired')::boolean;
        COMMIT;
    END LOOP;
END $$;

CREATE PROCEDURE churn_plpgsql(first integer, keys integer, pairs integer, renewals integer DEFAULT 0)
LANGUAGE plpgsql AS $$
DECLARE
    k text;
BEGIN
    FOR i IN 1..pairs LOOP
        k := 'kit:' || first + floor(random() * keys)::integer;
        ASSERT plpgsql_release(k, 'anna');
        COMMIT;
        ASSERT plpgsql_acquire(k, 'anna') IS NOT NULL;
        COMMIT;
    END LOOP;
    FOR i IN 1..renewals LOOP
        k := 'kit:' || first + floor(random() * keys)::integer;
        ASSERT plpgsql_acquire(k, 'anna') IS NOT NULL;
        COMMIT;
    END LOOP;
END $$;
