# shellcheck shell=bash
# Sourced by run and instructions, after tests/setup/common.sh: the version that softlock is measured
# beside, so that before and after come from one run.

# Version 0.1.0.
: "${BENCH_BASELINE=3b779585cecb0601ec07495c9f1f3c9983a00644}"

# baseline [PG_CONFIG]: builds it, for a private copy of this PostgreSQL of its own, since two versions of
# a library have one name. Sets baseline, which version that is, and baseline_bin, where its server
# is; both are empty where it is left out.
baseline() {
    local tree=$root/target/baseline commit
    baseline='' baseline_bin=''
    [ -n "$BENCH_BASELINE" ] || return 0
    commit=$(git -C "$root" rev-parse --verify --quiet "$BENCH_BASELINE^{commit}") || {
        say "$BENCH_BASELINE is not in this checkout's history; measuring without it"
        return 0
    }
    if [ "$(cat "$tree/commit" 2>/dev/null)" != "$commit" ]; then
        rm -rf "$tree" && mkdir -p "$tree"
        git -C "$root" archive "$commit" | tar -x -C "$tree"
        echo "$commit" >"$tree/commit"
    fi
    baseline="softlock $(sed -n 's/^version = "\(.*\)"$/\1/p' "$tree/Cargo.toml" | head -n 1), commit ${commit::7}"
    say "$baseline, to measure beside"
    baseline_bin=$(
        export PG_CONFIG=${1:-} CARGO_TARGET_DIR=$tree/target
        [ -n "$PG_CONFIG" ] || unset PG_CONFIG
        # shellcheck source=tests/setup/common.sh
        . "$tree/tests/setup/common.sh"
        prepare
        install_softlock
        echo "$bin"
    )
}
