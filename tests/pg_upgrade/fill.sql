-- A shop in the middle of its day, for pg_upgrade to bring to another version.
CREATE ROLE till;
CREATE ROLE dba;
CREATE EXTENSION softlock;
INSERT INTO softlock.policies (kind, max_ttl, max_per_owner) VALUES ('seat', '12 h', 2);
GRANT EXECUTE ON FUNCTION softlock_break(text, text) TO dba;

SET softlock.history = 'all';
SELECT softlock_acquire('kit:' || n, CASE n % 2 WHEN 0 THEN 'anna' ELSE 'букет' END, '8 h',
                        session => 'cart-' || n / 3, metadata => jsonb_build_object('till', n))
FROM generate_series(1, 40) AS n;
SET ROLE till;
SELECT softlock_acquire('seat:1', 'anna', '8 h');
RESET ROLE;
SELECT softlock_acquire('roses', 'anna', '8 h', units => 3, capacity => 10),
       softlock_acquire('roses', 'boris', '8 h', units => 2, capacity => 10);
-- Lapsed, and swept by nobody.
SELECT softlock_acquire('lapsed:' || n, 'anna', '1 ms') FROM generate_series(1, 5) AS n;
-- Ended, so that its next token has to be larger than what no row tells.
SELECT softlock_acquire('ended:1', 'anna'), softlock_release('ended:1', 'anna');
SELECT softlock_renew('kit:2', 'anna', '9 h');

-- What the shop has of its own: tokens that it was given, and guarded rows.
CREATE TABLE kit (id integer PRIMARY KEY, price numeric);
INSERT INTO kit SELECT n, n FROM generate_series(1, 50) AS n;
CREATE TRIGGER held BEFORE INSERT OR UPDATE OR DELETE ON kit FOR EACH ROW
    EXECUTE FUNCTION softlock_guard('kit:', 'id');
-- Lock columns of the shop's own, which softlock sweeps.
CREATE TABLE reservation (kit integer, status text, locked_until timestamptz, locked_by text);
INSERT INTO reservation
SELECT n, CASE n % 2 WHEN 0 THEN 'sold' ELSE 'reserved' END, now() + n * '1 hour'::interval, 'anna'
FROM generate_series(-4, 4) AS n;
SELECT softlock_adopt('reservation', 'locked_until', clears => '{locked_by}', condition => $$status = 'reserved'$$, label => 'kit');
CREATE TABLE told AS SELECT resource, token FROM softlock.locks;
