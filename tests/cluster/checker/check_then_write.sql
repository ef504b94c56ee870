-- What softlock replaces, with its signatures and answers: look whether it is free, then write. The
-- checker has to catch it.

CREATE TABLE hold (resource text PRIMARY KEY, owner text, token bigint, acquired_at timestamptz, expires_at timestamptz);
INSERT INTO hold (resource) SELECT 'busy:0' || n FROM generate_series(0, 3) AS n;
CREATE SEQUENCE token;

CREATE FUNCTION answer(outcome text, h hold) RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('outcome', outcome, 'owner', h.owner, 'token', h.token,
        'acquired_at', h.acquired_at, 'expires_at', h.expires_at)
$$;

CREATE FUNCTION softlock_acquire(key text, who text, ttl interval, session text, wait interval DEFAULT '0')
RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE h hold; t timestamptz := clock_timestamp();
BEGIN
    SELECT * INTO h FROM hold WHERE resource = key;
    IF h.expires_at > t AND h.owner <> who THEN
        RETURN answer('held', h);
    ELSIF h.expires_at > t THEN
        UPDATE hold SET expires_at = greatest(expires_at, t + ttl) WHERE resource = key RETURNING * INTO h;
        RETURN answer('renewed', h);
    END IF;
    UPDATE hold SET owner = who, token = nextval('token'), acquired_at = t, expires_at = t + ttl
    WHERE resource = key RETURNING * INTO h;
    RETURN answer('granted', h);
END $$;

CREATE FUNCTION softlock_renew(key text, who text, ttl interval) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE h hold; t timestamptz := clock_timestamp();
BEGIN
    UPDATE hold SET expires_at = greatest(expires_at, t + ttl)
    WHERE resource = key AND owner = who AND expires_at > t RETURNING * INTO h;
    RETURN answer(CASE WHEN FOUND THEN 'renewed' ELSE 'not_held' END, h);
END $$;

CREATE FUNCTION softlock_release(key text, who text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE h hold;
BEGIN
    UPDATE hold SET expires_at = NULL
    WHERE resource = key AND owner = who AND expires_at > clock_timestamp() RETURNING * INTO h;
    RETURN answer(CASE WHEN FOUND THEN 'released' ELSE 'not_held' END, h);
END $$;
