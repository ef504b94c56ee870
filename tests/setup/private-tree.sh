# shellcheck shell=bash
# Sourced by common.sh: a copy of a PostgreSQL that softlock may be installed into, so that the
# machine's own is left alone.

# private_tree PG_CONFIG: makes the copy, or finds it. PostgreSQL finds its files relative to its
# programs, so the copy keeps their relative places. The programs are copied, since they look through
# links to find themselves; the files they read are linked. Each checkout has copies of its own, so
# that two of them can be tested at a time.
private_tree() {
    local from=$1 from_bin prefix tree part path stamp
    from_bin=$("$from" --bindir)
    pg=$("$from" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
    # Called by a script that has made one.
    if [[ $from_bin = "$SOFTLOCK_CACHE"/server-* ]]; then
        bin=$from_bin pg_config=$from
        return
    fi
    prefix=$("$from" --bindir --pkglibdir --sharedir --includedir-server | common_directory)
    tree=$SOFTLOCK_CACHE/server-$(private_name "$from")
    stamp="$root"$'\n'"$("$from" --version), $(stat -c %Y "$from_bin/postgres")"
    bin=$tree${from_bin#"$prefix"}
    pg_config=$bin/pg_config
    if [ "$(cat "$tree/complete" 2>/dev/null)" != "$stamp" ]; then
        say "copying $("$from" --version) to $tree"
        forget_lost_checkouts
        rm -rf "$tree"
        mkdir -p "$bin"
        cp -pL "$from_bin"/* "$bin/"
        for part in --pkglibdir --sharedir --includedir-server; do
            path=$("$from" "$part")
            mkdir -p "$tree${path#"$prefix"}"
            cp -rs "$path/." "$tree${path#"$prefix"}/"
        done
        # Whatever softlock an administrator has installed there is not this one.
        find "$tree" -name 'softlock*' -delete
    fi
    export PG_CONFIG=$pg_config PGRX_HOME=$tree/pgrx
    if ! [ -e "$tree/complete" ]; then
        mkdir "$PGRX_HOME"
        logged "pgrx-init-$pg" cargo pgrx init "--pg$pg" "$pg_config"
        echo "$stamp" >"$tree/complete"
    fi
}

# private_plproxy: puts PL/Proxy into the copy. The distribution has it for its own PostgreSQL only.
private_plproxy() {
    local extension library
    extension=$("$pg_config" --sharedir)/extension library=$("$pg_config" --pkglibdir)
    unpacked "postgresql-$pg-plproxy"
    ln -sf "$unpacked/usr/share/postgresql/$pg/extension"/plproxy* "$extension/"
    ln -sf "$unpacked/usr/lib/postgresql/$pg/lib/plproxy.so" "$library/"
}

# private_name PG_CONFIG: says which PostgreSQL it is, and is another one for each checkout.
private_name() {
    local sum
    sum=$(echo "$root $("$1" --bindir)" | cksum)
    "$1" --version | sed 's/^\([^ ]*\) \([0-9a-z.]*\).*/\1-\2/' | tr '\n' '-'
    echo "${sum%% *}"
}

# The copies made for checkouts that have gone.
forget_lost_checkouts() {
    local tree checkout
    for tree in "$SOFTLOCK_CACHE"/server-*; do
        read -r checkout <"$tree/complete" || continue
        [ -e "$checkout" ] || rm -rf "$tree"
    done 2>/dev/null
}

# common_directory: the deepest directory above all paths on standard input.
common_directory() {
    local common path
    read -r common
    while read -r path; do
        while [ "${path#"$common"/}" = "$path" ]; do common=${common%/*}; done
    done
    echo "$common"
}
