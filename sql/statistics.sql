-- What is counted, with the databases' names. A database that has been dropped, or in which softlock has
-- done nothing since the server was started, has no row.
CREATE VIEW @extschema@.pg_stat_softlock AS
SELECT s.datid, d.datname, s.grants, s.renewals, s.moves, s.held, s.contended, s.quota, s.releases, s.consumes,
       s.consume_failures, s.breaks, s.guard_refusals, s.waits, s.wait_timeouts, s.wait_time, s.stats_reset
FROM softlock.statistics() AS s
JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) s.datid;

CREATE VIEW @extschema@.pg_stat_softlock_sweep AS
SELECT s.datid, d.datname, s.sweeps, s.swept, s.sweep_time, s.last_sweep, s.last_swept, s.failed, s.last_failed,
       s.last_error, s.next_sweep, s.stats_reset
FROM softlock.sweep_statistics() AS s
JOIN pg_catalog.pg_database AS d ON d.oid OPERATOR(pg_catalog.=) s.datid;

COMMENT ON VIEW @extschema@.pg_stat_softlock IS
    'what calls have come to, a row per database (1024 at most), counted when it was decided, rolled back or not, since the server started';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.datid IS 'the database';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.datname IS 'its name';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.grants IS 'locks granted, each of a cart';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.renewals IS 'locks prolonged, by renew or by taking again what one holds';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.moves IS 'locks that went to another session or owner';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.held IS 'refusals since somebody else held it, each of a cart';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.contended IS 'refusals since somebody was taking it or ending a lock on it, each of a cart';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.quota IS 'refusals since the owner had as many of the kind as it may have';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.releases IS 'locks given back';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.consumes IS 'locks ended by a sale, each of a cart';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.consume_failures IS 'calls of consume that were refused (SL001)';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.breaks IS 'locks broken';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.guard_refusals IS 'writes that softlock_guard refused (SL002, SL003)';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.waits IS 'calls of acquire that had to wait and were answered';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.wait_timeouts IS 'those of them that waited in vain';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.wait_time IS 'how long they waited, in milliseconds';
COMMENT ON COLUMN @extschema@.pg_stat_softlock.stats_reset IS 'since when this is counted: the first call since the server started, or the last reset';

COMMENT ON VIEW @extschema@.pg_stat_softlock_sweep IS
    'what sweeps have come to, the worker''s and softlock_sweep''s, a row per database (1024 at most), since the server started';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.datid IS 'the database';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.datname IS 'its name';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.sweeps IS 'sweeps that came to their end';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.swept IS 'expired locks deleted';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.sweep_time IS 'how long that took, in milliseconds';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.last_sweep IS 'when a sweep last came to its end';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.last_swept IS 'how many locks that one deleted';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.failed IS 'sweeps of the worker that failed';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.last_failed IS 'when one failed last';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.last_error IS 'why, in at most 511 bytes';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.next_sweep IS 'when the worker begins with the next sweeps; NULL while softlock.sweep_interval is 0';
COMMENT ON COLUMN @extschema@.pg_stat_softlock_sweep.stats_reset IS 'since when this is counted: the first call since the server started, or the last reset';

COMMENT ON FUNCTION softlock.statistics() IS 'the rows of pg_stat_softlock, without the databases'' names';
COMMENT ON FUNCTION softlock.sweep_statistics() IS 'the rows of pg_stat_softlock_sweep, without the databases'' names';
COMMENT ON FUNCTION @extschema@.pg_stat_softlock_reset() IS
    'count anew what pg_stat_softlock and pg_stat_softlock_sweep show of this database';
COMMENT ON FUNCTION @extschema@.softlock_check() IS
    'whether everything is as it should be: a row per check, with what to do where ok is false, or NULL for another check''s sake';
