-- A line for everything that can be told of what the extension has installed in this database, so that two
-- databases can be compared: in words, without oids; privileges with the server's defaults written out.
WITH member AS (
    SELECT d.classid, d.objid
    FROM pg_depend AS d
    JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
    WHERE d.deptype = 'e' AND e.extname = 'softlock'
), relation AS (
    SELECT c.*, pg_describe_object('pg_class'::regclass, c.oid, 0) AS name
    FROM pg_class AS c
    WHERE EXISTS (SELECT FROM member AS m WHERE (m.classid, m.objid) = ('pg_class'::regclass, c.oid))
       OR c.oid IN (SELECT i.indexrelid FROM pg_index AS i
                    JOIN member AS m ON (m.classid, m.objid) = ('pg_class'::regclass, i.indrelid))
), part AS ( -- objects and their columns, with their privileges
    SELECT 'pg_class'::regclass AS classid, oid AS objid, 0 AS objsubid, relowner AS owner,
           CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char" AS kind, relacl AS acl
    FROM relation WHERE relkind <> 'i'
    UNION ALL
    SELECT 'pg_class'::regclass, attrelid, attnum, relowner, 'c', attacl
    FROM relation JOIN pg_attribute ON attrelid = relation.oid
    WHERE relkind IN ('r', 'v') AND attnum > 0
    UNION ALL
    SELECT classid, objid, 0, proowner, 'f', proacl
    FROM member JOIN pg_proc ON (classid, objid) = ('pg_proc'::regclass, pg_proc.oid)
    UNION ALL
    SELECT classid, objid, 0, nspowner, 'n', nspacl
    FROM member JOIN pg_namespace ON (classid, objid) = ('pg_namespace'::regclass, pg_namespace.oid)
), line AS (
    SELECT 'extension' AS what, NULL AS name,
           concat_ws(' ', extversion, extnamespace::regnamespace, extowner::regrole, extrelocatable,
                     'dumps', (SELECT array_agg(c::regclass || ' ' || w ORDER BY c::regclass::text)
                               FROM unnest(extconfig, extcondition) AS dumped (c, w))) AS said
    FROM pg_extension WHERE extname = 'softlock'
    UNION ALL
    SELECT 'object', pg_describe_object(classid, objid, 0), NULL FROM member
    UNION ALL
    SELECT 'comment', pg_describe_object(classoid, objoid, objsubid), description
    FROM pg_description
    WHERE (classoid, objoid) IN (TABLE member)
       OR classoid = 'pg_class'::regclass AND objoid IN (SELECT oid FROM relation)
       OR classoid IN ('pg_policy'::regclass, 'pg_trigger'::regclass, 'pg_constraint'::regclass)
    UNION ALL
    SELECT 'function', p.proname, concat_ws(' ', p.proowner::regrole, pg_get_functiondef(p.oid))
    FROM member JOIN pg_proc AS p ON (classid, objid) = ('pg_proc'::regclass, p.oid)
    UNION ALL
    SELECT 'relation', r.name,
           concat_ws(' ', r.relowner::regrole, r.relkind, r.relpersistence, a.amname, r.reloptions, t.reloptions,
                     r.relrowsecurity, r.relforcerowsecurity, r.relreplident, r.relnatts, r.relchecks, r.relhasrules,
                     r.relhastriggers, r.relispartition, r.relhassubclass)
    FROM relation AS r
    LEFT JOIN pg_am AS a ON a.oid = r.relam
    LEFT JOIN pg_class AS t ON t.oid = r.reltoastrelid
    UNION ALL
    SELECT 'column', r.name || ' ' || a.attnum,
           concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attcollation::regcollation,
                     a.attstorage, a.attisdropped, a.atthasdef, a.atthasmissing, a.attidentity, a.attgenerated)
    FROM relation AS r JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0
    UNION ALL
    SELECT 'view', name, pg_get_viewdef(oid) FROM relation WHERE relkind = 'v'
    UNION ALL
    SELECT 'index', r.name,
           concat_ws(' ', pg_get_indexdef(i.indexrelid), i.indisprimary, i.indisvalid, i.indisready, i.indcheckxmin)
    FROM relation AS r JOIN pg_index AS i ON i.indexrelid = r.oid
    UNION ALL
    SELECT 'sequence', r.name,
           concat_ws(' ', s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle)
    FROM relation AS r JOIN pg_sequence AS s ON s.seqrelid = r.oid
    UNION ALL
    SELECT 'constraint', r.name, concat_ws(' ', c.conname, pg_get_constraintdef(c.oid), c.convalidated)
    FROM relation AS r JOIN pg_constraint AS c ON c.conrelid = r.oid
    UNION ALL
    SELECT 'policy', r.name, concat_ws(' ', p.polname, p.polcmd, p.polpermissive, p.polroles::regrole[],
                                       pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
    FROM relation AS r JOIN pg_policy AS p ON p.polrelid = r.oid
    UNION ALL
    SELECT 'trigger', r.name, concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled)
    FROM relation AS r JOIN pg_trigger AS t ON t.tgrelid = r.oid
    UNION ALL
    SELECT 'dependency', pg_describe_object(d.classid, d.objid, d.objsubid),
           concat_ws(' ', d.deptype, pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid))
    FROM pg_depend AS d
    WHERE (d.classid, d.objid) IN (TABLE member)
       OR d.classid = 'pg_class'::regclass AND d.objid IN (SELECT oid FROM relation)
    UNION ALL
    SELECT 'role', pg_describe_object(d.classid, d.objid, d.objsubid), concat_ws(' ', d.deptype, d.refobjid::regrole)
    FROM pg_shdepend AS d
    WHERE d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND ((d.classid, d.objid) IN (TABLE member)
           OR d.classid = 'pg_class'::regclass AND d.objid IN (SELECT oid FROM relation))
    UNION ALL
    SELECT privileges.what, pg_describe_object(p.classid, p.objid, p.objsubid),
           concat_ws(' ', a.grantor::regrole, a.grantee::regrole, a.privilege_type, a.is_grantable)
    FROM part AS p
    LEFT JOIN pg_init_privs AS i ON (i.classoid, i.objoid, i.objsubid) = (p.classid, p.objid, p.objsubid)
    CROSS JOIN LATERAL (VALUES ('privilege', p.acl), ('initial privilege', i.initprivs)) AS privileges (what, acl)
    CROSS JOIN LATERAL aclexplode(coalesce(privileges.acl, acldefault(p.kind, p.owner))) AS a
)
SELECT concat_ws(': ', what, name, said) AS line FROM line ORDER BY concat_ws(': ', what, name, said) COLLATE "C";
