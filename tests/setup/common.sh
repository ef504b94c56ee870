# Sourced by the other scripts: saying what happens, installing what is missing, and the private copy
# of PostgreSQL that softlock is built for and installed into. Messages go to standard error.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# The version of the pgrx crate; cargo-pgrx must be the very same.
pgrx_version=$(sed -n 's/^pgrx = "=\(.*\)"$/\1/p' "$root/Cargo.toml")

if [ "$(id -u)" = 0 ]; then
    : "${SOFTLOCK_CACHE:=/var/cache/softlock}"
else
    : "${SOFTLOCK_CACHE:=${XDG_CACHE_HOME:-$HOME/.cache}/softlock}"
fi
export SOFTLOCK_CACHE
mkdir -p "$SOFTLOCK_CACHE/log"

# A server started with a stack-trace setting puts a trace into the DETAIL of every error.
unset RUST_BACKTRACE

say() { printf '== %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# logged NAME COMMAND…: runs it with its output in a file, of which the end is shown if it fails.
logged() {
    local log=$SOFTLOCK_CACHE/log/$1.log
    shift
    if ! "$@" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        die "'$*' failed; its whole output is in $log"
    fi
}

# PostgreSQL refuses to run as root; its programs then run as the user postgres.
as_server() {
    if [ "$(id -u)" = 0 ]; then
        runuser -u postgres -- "$@"
    else
        "$@"
    fi
}

# packages NAME…: installs those Debian packages that are missing; asks for nothing when none is.
packages() {
    local missing=() name sudo=()
    for name in "$@"; do
        dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'install ok installed' || missing+=("$name")
    done
    [ ${#missing[@]} = 0 ] && return
    command -v apt-get >/dev/null || die "please install: ${missing[*]} (this is not a Debian or Ubuntu)"
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "please run as root: apt-get install ${missing[*]}"
        sudo=(sudo)
    fi
    say "installing Debian packages: ${missing[*]}"
    logged apt-update "${sudo[@]}" apt-get update -q
    logged apt-install "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends "${missing[@]}"
}

# The distribution's own PostgreSQL: its pg_config, installed when it is missing.
system_pg_config() {
    local version dropin=/etc/postgresql-common/createcluster.d/softlock-setup.conf sudo=
    packages postgresql-common
    version=$(apt-cache depends postgresql 2>/dev/null | sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p' | head -n 1)
    if [ -z "$version" ]; then # the package lists are gone: take what is installed
        version=$(cd /usr/lib/postgresql && ls | sort -n | tail -n 1)
    fi
    if ! [ -x "/usr/lib/postgresql/$version/bin/postgres" ]; then
        # Debian would create and start a cluster along with the server; nobody asked for one.
        [ "$(id -u)" = 0 ] || sudo=sudo
        $sudo mkdir -p "${dropin%/*}"
        echo 'create_main_cluster = false' | $sudo tee "$dropin" >/dev/null
    fi
    packages "postgresql-$version" "postgresql-client-$version" "postgresql-server-dev-$version"
    [ -z "${sudo+x}" ] || [ ! -e "$dropin" ] || $sudo rm -f "$dropin"
    echo "/usr/lib/postgresql/$version/bin/pg_config"
}

# private_tree PG_CONFIG: a copy of that PostgreSQL which softlock may be installed into, so that the
# server itself is left alone; prints the copy's pg_config. PostgreSQL finds its files relative to its
# programs, so the copy keeps their relative places. The programs are copied, since they look through
# links to find themselves; the files they read are linked.
private_tree() {
    local from=$1 version tree prefix bin part dir
    version=$("$from" --version)
    prefix=$("$from" --bindir --pkglibdir --sharedir --includedir-server | common_prefix)
    tree=$SOFTLOCK_CACHE/server-$(printf '%s' "$version $("$from" --bindir)" | tr -cs 'A-Za-z0-9.\n' '-')
    bin=$tree/$(relative "$prefix" "$("$from" --bindir)")
    if ! [ "$(cat "$tree/complete" 2>/dev/null)" = "$version" ]; then
        say "copying $version to $tree"
        rm -rf "$tree"
        mkdir -p "$bin"
        cp -pL "$("$from" --bindir)"/* "$bin/"
        for part in --pkglibdir --sharedir --includedir-server --libdir; do
            dir=$(relative "$prefix" "$("$from" $part)")
            # The general library directory is shared with the whole system; only the server's own
            # is mirrored.
            [ "$part" = --libdir ] && [ "$dir" != lib ] && continue
            mkdir -p "$tree/$dir"
            cp -rs "$("$from" $part)"/. "$tree/$dir/" 2>/dev/null || true
        done
        # Whatever softlock an administrator installed there is not this one.
        find "$tree" -name 'softlock*' -delete
        echo "$version" >"$tree/complete"
    fi
    echo "$bin/pg_config"
}

# common_prefix: the deepest directory above all paths on standard input.
common_prefix() {
    local first path
    read -r first
    while read -r path; do
        while [ "${path#"$first"/}" = "$path" ]; do first=${first%/*}; done
    done
    echo "$first"
}

# relative PREFIX PATH: PATH as seen from PREFIX.
relative() { printf '%s\n' "${2#"$1"/}"; }

# prepare: everything that building and testing needs; sets pg_config (the private one), pg (the
# major version) and bin, and exports PGRX_HOME.
prepare() {
    local from=${PG_CONFIG:-}
    command -v cargo >/dev/null || die "please install Rust first (https://rustup.rs)"
    packages build-essential pkg-config libclang-dev libssl-dev
    [ "$(id -u)" != 0 ] || packages sudo # cargo pgrx test --runas
    [ -n "$from" ] || from=$(system_pg_config)
    [ -x "$from" ] || from=$(command -v "$from") || die "there is no pg_config at $from"
    [ -e "$("$from" --includedir-server)/postgres.h" ] ||
        die "$from has no server headers; install postgresql-server-dev for its version"
    if ! cargo pgrx --version 2>/dev/null | grep -qx "cargo-pgrx $pgrx_version"; then
        say "installing cargo-pgrx $pgrx_version (a few minutes)"
        logged cargo-pgrx cargo install --locked cargo-pgrx --version "=$pgrx_version"
    fi
    pg_config=$(private_tree "$from")
    bin=$("$pg_config" --bindir)
    pg=$("$pg_config" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
    export PGRX_HOME=$SOFTLOCK_CACHE/pgrx-$pg
    if ! grep -qsF "\"$pg_config\"" "$PGRX_HOME/config.toml"; then
        mkdir -p "$PGRX_HOME"
        logged pgrx-init cargo pgrx init "--pg$pg" "$pg_config"
    fi
    # Where root prepares, postgres has to read.
    [ "$(id -u)" != 0 ] || chmod -R a+rX "$SOFTLOCK_CACHE"
    export PG_CONFIG=$pg_config
}

# install_softlock: builds this checkout and installs it into the private copy.
install_softlock() {
    say "building softlock for PostgreSQL $pg and installing it into a private copy of the server"
    (cd "$root" && logged build cargo pgrx install --release --no-default-features \
        --features "pg$pg" --pg-config "$pg_config")
    [ "$(id -u)" != 0 ] || chmod -R a+rX "$SOFTLOCK_CACHE"
}

# start_server [SETTING…]: a throw-away server that is preloaded with softlock; sets PGHOST, PGUSER
# and PGDATABASE, and is stopped and removed when the script ends.
start_server() {
    server=$(mktemp -d /tmp/softlock.XXXXXX)
    [ "$(id -u)" != 0 ] || chown postgres "$server"
    trap stop_server EXIT
    trap 'exit 130' INT TERM
    as_server "$bin/initdb" -D "$server/data" -U postgres -A trust --no-sync >/dev/null
    {
        printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$server'" 'fsync = off' \
            "shared_preload_libraries = 'softlock'" "log_line_prefix = '%m [%p] %b '"
        printf '%s\n' "$@"
    } | as_server tee -a "$server/data/postgresql.conf" >/dev/null
    export PGHOST=$server PGUSER=postgres PGDATABASE=postgres
    unset PGPORT PGPASSWORD PGOPTIONS PGSERVICE
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
