-- The tables that softlock sweeps for others: shops that keep their lock columns. Written by
-- softlock_adopt and softlock_disown, and by who restores a dump.
CREATE TABLE softlock.adopted (
    relation       regclass NOT NULL,
    expires_column text NOT NULL,
    clears         text[] NOT NULL,
    condition      text,
    label          text,
    time_zone      text,
    row_type       oid NOT NULL,
    adopted_by     oid NOT NULL,
    adopted_at     timestamptz NOT NULL,
    failed_at      timestamptz,
    last_error     text,
    CONSTRAINT adopted_pkey PRIMARY KEY (relation)
) USING heap;

-- What is in a row runs as the owner of its table. So who puts one in, as the owner of the database does
-- who restores a dump, must have that role's privileges, and is held to have adopted the table: a sweep
-- asks again. Row security would not do, as it does not go with COPY.
CREATE FUNCTION softlock.adopted_insert() RETURNS trigger
LANGUAGE plpgsql
SET search_path TO pg_catalog, pg_temp
AS $$
DECLARE
    its record;
BEGIN
    SELECT c.relowner, c.reltype INTO its
    FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) NEW.relation;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no table to adopt' USING ERRCODE = '42P01';
    END IF;
    IF NOT pg_catalog.pg_has_role(current_user, its.relowner, 'USAGE') THEN
        RAISE EXCEPTION 'must be owner of table %', NEW.relation USING ERRCODE = '42501';
    END IF;
    NEW.row_type := its.reltype;
    NEW.adopted_by := (SELECT r.oid FROM pg_catalog.pg_roles AS r
                       WHERE r.rolname OPERATOR(pg_catalog.=) current_user);
    NEW.failed_at := NULL;
    NEW.last_error := NULL;
    RETURN NEW;
END
$$;
CREATE TRIGGER adopted_insert BEFORE INSERT ON softlock.adopted
    FOR EACH ROW EXECUTE FUNCTION softlock.adopted_insert();
ALTER TABLE softlock.adopted ENABLE ALWAYS TRIGGER adopted_insert;

-- What has been dropped since is not dumped: its number may mean another table where that is restored.
SELECT pg_catalog.pg_extension_config_dump('softlock.adopted',
    'WHERE EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE (c.oid, c.reltype) = (relation, row_type))');

COMMENT ON TABLE softlock.adopted IS
    'a row per table whose own lock columns the sweeps clear; written by softlock_adopt and softlock_disown';
COMMENT ON COLUMN softlock.adopted.relation IS 'the table';
COMMENT ON COLUMN softlock.adopted.expires_column IS 'the column that says when a hold lapses; cleared with it';
COMMENT ON COLUMN softlock.adopted.clears IS 'the other columns that are set to NULL when it has lapsed';
COMMENT ON COLUMN softlock.adopted.condition IS 'which rows are looked at, as an expression of SQL; NULL for all';
COMMENT ON COLUMN softlock.adopted.label IS 'the column that names a row in answers and in the log, or NULL';
COMMENT ON COLUMN softlock.adopted.time_zone IS
    'where the expiry is a timestamp without time zone: the zone that it is in; else NULL';
COMMENT ON COLUMN softlock.adopted.row_type IS
    'number of the table''s row type, which tells it from a later table of the same number';
COMMENT ON COLUMN softlock.adopted.adopted_by IS
    'number of the role that adopted it, which must have the privileges of the table''s owner at each sweep';
COMMENT ON COLUMN softlock.adopted.adopted_at IS 'when it was adopted, or its adoption last changed';
COMMENT ON COLUMN softlock.adopted.failed_at IS 'since when it can''t be swept; NULL when it can';
COMMENT ON COLUMN softlock.adopted.last_error IS 'why it could not be swept at first';
COMMENT ON INDEX softlock.adopted_pkey IS 'finds a table''s adoption';
COMMENT ON FUNCTION softlock.adopted_insert() IS
    'lets nobody adopt a table without the privileges of its owner, and notes who it was';
COMMENT ON TRIGGER adopted_insert ON softlock.adopted IS
    'lets nobody adopt a table without the privileges of its owner, and notes who it was';
