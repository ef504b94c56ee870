SELECT r.resource, l.owner IS NOT NULL, l.owner = $2, l.owner, l.session, l.metadata,
    l.acquired_at, l.expires_at, l.expires_at - clock_timestamp()
FROM unnest($1::text[]) WITH ORDINALITY AS r(resource, n)
LEFT JOIN upsert_locks AS l ON l.resource = r.resource AND l.expires_at > clock_timestamp()
ORDER BY r.n
