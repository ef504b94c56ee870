# shellcheck shell=bash
# Sourced by the other scripts: saying what happens, installing what is missing, the private copy of
# PostgreSQL that softlock is installed into, and throw-away servers. Messages go to standard error.

set -euo pipefail
shopt -s inherit_errexit
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

# A server started with a stack-trace setting puts a trace into the DETAIL of every error, and what
# the caller set for psql and libpq is about other servers.
unset RUST_BACKTRACE
for name in "${!PG@}"; do
    case $name in
        PG_CONFIG | PG_CONFIG_* | PGRX_*) ;;
        *) unset "$name" ;;
    esac
done

# Rust may be there without being on PATH yet.
command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

say() { printf '== %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
command -v cargo >/dev/null || die "please install Rust first, with rustup for instance"

# logged NAME COMMAND…: runs it with its output in a file, of which the end is shown if it fails.
logged() {
    local log=$SOFTLOCK_CACHE/log/$1.log
    shift
    if ! "$@" >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        die "'$*' failed; its whole output is in $log"
    fi
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "there is no sudo; please run as root: $*"
    fi
}

# PostgreSQL refuses to run as root; its programs then run as the user postgres, who may not be
# allowed into the current directory.
as_server() {
    if [ "$(id -u)" = 0 ]; then
        (cd / && runuser -u postgres -- "$@")
    else
        "$@"
    fi
}

# Where root prepares, postgres has to read.
let_server_read() {
    [ "$(id -u)" = 0 ] || return 0
    chmod -R a+rX "$SOFTLOCK_CACHE"
    as_server test -r "$SOFTLOCK_CACHE/log" ||
        die "the user postgres must be there and able to read $SOFTLOCK_CACHE; see SOFTLOCK_CACHE"
}

. "$root/tests/setup/packages.sh"
. "$root/tests/setup/place.sh"
. "$root/tests/setup/private-tree.sh"
. "$root/tests/setup/throw-away-server.sh"

# prepare [PACKAGE…]: everything that building and testing needs, and these packages. Sets pg_config
# (the private one), bin and pg (the major version), and exports PG_CONFIG and PGRX_HOME.
prepare() {
    local from=${PG_CONFIG:-} wanted=(build-essential pkg-config libclang-dev libssl-dev "$@")
    if [ -n "$from" ]; then
        packages "${wanted[@]}"
    else
        distribution_postgres "${wanted[@]}"
        from=$distribution_pg_config
    fi
    from=$(command -v "$from") || die "there is no pg_config at $PG_CONFIG"
    [ -e "$("$from" --includedir-server)/postgres.h" ] ||
        die "$from has no server headers; Debian has them in postgresql-server-dev-VERSION"
    cargo_pgrx
    private_tree "$from"
    let_server_read
}

# cargo_pgrx: the version that the crate asks for. Another one that the user has stays.
cargo_pgrx() {
    local own=$SOFTLOCK_CACHE/cargo-pgrx-$pgrx_version
    is_there() { cargo pgrx --version 2>/dev/null | grep -qx "cargo-pgrx $pgrx_version"; }
    is_there && return
    # cargo looks into its own bin before PATH, unless PATH has that too.
    export PATH=$own/bin:$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    is_there && return
    say "installing cargo-pgrx $pgrx_version into $own (a few minutes)"
    logged cargo-pgrx cargo install --locked --root "$own" cargo-pgrx --version "=$pgrx_version"
}

# install_softlock [FEATURE]: builds this checkout and installs it into the private copy, which servers may
# be running on: packaged first, since cargo-pgrx takes the old library away before it writes the new one.
install_softlock() {
    say "building softlock for PostgreSQL $pg (minutes the first time), for a private copy of the server"
    rm -rf "$PGRX_HOME/package"
    (cd "$root" && logged "build-$pg" cargo pgrx package --no-default-features \
        --features "pg$pg ${1:-}" --pg-config "$pg_config" --out-dir "$PGRX_HOME/package")
    place_softlock "$PGRX_HOME/package" "$("$pg_config" --pkglibdir)" "$("$pg_config" --sharedir)/extension"
    let_server_read
}
