# shellcheck shell=bash
# Sourced by common.sh: a server for one run, of the private copy and preloaded with softlock.

# start_server [SETTING…]: sets PGHOST, PGUSER and PGDATABASE for psql, and server, the directory that
# has its data, its socket and its log. It is stopped and removed when the script ends.
start_server() {
    server=$(mktemp -d /tmp/softlock.XXXXXX) # short: a socket's path may have no more than 107 bytes
    trap stop_server EXIT
    trap 'exit 130' INT TERM HUP
    [ "$(id -u)" != 0 ] || chown postgres "$server"
    as_server "$bin/initdb" -D "$server/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync \
        >/dev/null
    printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$server'" 'fsync = off' \
        "shared_preload_libraries = 'softlock'" "log_line_prefix = '%m [%p] %b '" "$@" |
        as_server tee -a "$server/data/postgresql.conf" >/dev/null
    export PGHOST=$server PGUSER=postgres PGDATABASE=postgres
    as_server "$bin/pg_ctl" -D "$server/data" -l "$server/log" -w start >/dev/null || {
        cat "$server/log" >&2
        die "the server did not start"
    }
}

stop_server() {
    [ -n "${server:-}" ] || return 0
    as_server "$bin/pg_ctl" -D "$server/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$server"
    server=
}
