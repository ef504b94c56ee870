-- What holds of a kind may do, where that is not what the settings say. Written by the DBA, and dumped.

CREATE TABLE softlock.policies (
    kind          text COLLATE "C" NOT NULL,
    default_ttl   interval,
    max_ttl       interval,
    max_hold      interval,
    max_per_owner integer,
    CONSTRAINT policies_pkey PRIMARY KEY (kind),
    CONSTRAINT kind_has_no_colon CHECK (pg_catalog.strpos(kind, ':') OPERATOR(pg_catalog.=) 0),
    CONSTRAINT kind_is_short CHECK (pg_catalog.octet_length(kind) OPERATOR(pg_catalog.<=) 1024),
    CONSTRAINT default_ttl_is_a_time CHECK (
        default_ttl OPERATOR(pg_catalog.>=) '1 microsecond' AND default_ttl OPERATOR(pg_catalog.<=) '100 years'),
    CONSTRAINT max_ttl_is_a_time CHECK (
        max_ttl OPERATOR(pg_catalog.>=) '1 microsecond' AND max_ttl OPERATOR(pg_catalog.<=) '100 years'),
    CONSTRAINT max_hold_is_a_time CHECK (
        max_hold OPERATOR(pg_catalog.>=) '1 microsecond' AND max_hold OPERATOR(pg_catalog.<=) '100 years'),
    CONSTRAINT default_ttl_is_at_most_max_ttl CHECK (default_ttl OPERATOR(pg_catalog.<=) max_ttl),
    CONSTRAINT max_per_owner_is_positive CHECK (max_per_owner OPERATOR(pg_catalog.>=) 1)
);

CREATE TRIGGER tell_sessions AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON softlock.policies
    FOR EACH STATEMENT EXECUTE FUNCTION softlock.policies_changed();
-- Also where a replica or a restore writes it.
ALTER TABLE softlock.policies ENABLE ALWAYS TRIGGER tell_sessions;

SELECT pg_catalog.pg_extension_config_dump('softlock.policies', '');

COMMENT ON TABLE softlock.policies IS
    'what holds of a kind may do; what is NULL is left to the settings; a change counts from the next call on';
COMMENT ON COLUMN softlock.policies.kind IS 'what stands before the first colon of a resource; empty for those without one';
COMMENT ON COLUMN softlock.policies.default_ttl IS 'time to live where a call gives none; else softlock.default_ttl';
COMMENT ON COLUMN softlock.policies.max_ttl IS 'longest time to live that a call may give; else softlock.max_ttl';
COMMENT ON COLUMN softlock.policies.max_hold IS 'longest time from grant to expiry, renewals included; else softlock.max_hold';
COMMENT ON COLUMN softlock.policies.max_per_owner IS 'how many locks of the kind an owner may have at a time; NULL for any number';
COMMENT ON TRIGGER tell_sessions ON softlock.policies IS 'has every session read the policies anew';
COMMENT ON CONSTRAINT kind_has_no_colon ON softlock.policies IS 'a kind ends before the first colon';
COMMENT ON INDEX softlock.policies_pkey IS 'one policy for a kind';
COMMENT ON FUNCTION softlock.policies_changed() IS 'trigger function of softlock.policies: has every session read them anew';
