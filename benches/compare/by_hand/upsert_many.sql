INSERT INTO upsert_locks AS l (resource, owner, token, role, acquired_at, expires_at)
SELECT k, $2, nextval('upsert_token'), current_role::regrole, clock_timestamp(),
    clock_timestamp() + interval '30 minutes'
FROM unnest($1::text[]) AS k
ON CONFLICT (resource) DO UPDATE SET owner = excluded.owner, token = excluded.token,
    acquired_at = excluded.acquired_at, expires_at = excluded.expires_at
WHERE l.owner = excluded.owner OR l.expires_at <= clock_timestamp()
RETURNING l.token
