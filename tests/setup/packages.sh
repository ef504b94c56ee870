# shellcheck shell=bash
# Sourced by common.sh: Debian and Ubuntu packages, installed only when they are missing.

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'install ok installed'; }

# packages NAME…: installs those that are missing; asks for nothing when none is.
packages() {
    local missing=() name
    for name in "$@"; do installed "$name" || missing+=("$name"); done
    [ ${#missing[@]} != 0 ] || return 0
    command -v apt-get >/dev/null || die "please install what Debian calls: ${missing[*]}"
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null ||
        die "packages are missing and there is no sudo; please run as root: apt-get install ${missing[*]}"
    refresh_package_lists
    say "installing Debian packages: ${missing[*]}"
    logged apt-install as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends "${missing[@]}"
}

# unpacked PACKAGE: a package that would start a service if it were installed. Unpacks it, and the
# libraries that it misses, into the cache, where it has not been installed by somebody. Sets unpacked,
# the directory to find its files under, and unpacked_libraries, for LD_LIBRARY_PATH.
unpacked() {
    local names
    unpacked='' unpacked_libraries=''
    ! installed "$1" || return 0
    unpacked=$SOFTLOCK_CACHE/package-$1
    if ! [ -e "$unpacked/complete" ]; then
        refresh_package_lists
        say "unpacking Debian's $1 to $unpacked"
        names=$(apt-get install -qq --print-uris --no-install-recommends "$1" |
            sed -nE "s/^[^ ]* ((lib|python3-|$1)[^_]*)_.*/\1/p")
        rm -rf "$unpacked" && mkdir -p "$unpacked/packages"
        # shellcheck disable=SC2086 # many words
        (cd "$unpacked/packages" && logged "download-$1" apt-get download $names)
        for names in "$unpacked"/packages/*.deb; do dpkg-deb -x "$names" "$unpacked"; done
        rm -rf "$unpacked/packages"
        touch "$unpacked/complete"
        let_server_read
    fi
    unpacked_libraries=$(echo "$unpacked"/usr/lib/*-linux-gnu)
}

# refresh_package_lists: once in a run.
refresh_package_lists() {
    [ -z "${package_lists_are_fresh:-}" ] || return 0
    say "refreshing the package lists"
    logged apt-update as_root apt-get update -q
    package_lists_are_fresh=yes
}

# The version that this distribution's package `postgresql` stands for, if the lists know it.
distribution_version() {
    LC_ALL=C apt-cache depends postgresql 2>/dev/null |
        sed -n 's/^ *Depends: postgresql-\([0-9]*\)$/\1/p' | head -n 1
}

# distribution_postgres PACKAGE…: the distribution's own PostgreSQL with its headers, and these
# packages. Sets distribution_pg_config.
distribution_postgres() {
    local version
    version=$(distribution_version)
    if [ -z "$version" ]; then
        # There are no package lists, as in a container image: take what is installed, else ask.
        distribution_pg_config=$(find /usr/lib/postgresql/*/bin/pg_config 2>/dev/null | sort -V | tail -n 1)
        if [ -n "$distribution_pg_config" ]; then
            version=$(basename "${distribution_pg_config%/bin/pg_config}")
        else
            refresh_package_lists
            version=$(distribution_version)
        fi
    fi
    [ -n "$version" ] || die "this system has no package postgresql; please give PG_CONFIG=/path/to/pg_config"
    distribution_pg_config=/usr/lib/postgresql/$version/bin/pg_config
    if installed "postgresql-$version"; then
        packages "postgresql-server-dev-$version" "$@"
    else
        without_new_cluster packages "postgresql-$version" "postgresql-server-dev-$version" "$@"
    fi
}

# without_new_cluster COMMAND…: Debian creates and starts a cluster when it installs a server; not
# while the command runs, since nobody asked for one.
without_new_cluster() {
    local directory=/etc/postgresql-common/createcluster.d
    refresh_package_lists # here, since the subshell could not remember it
    (
        trap 'as_root rm -f "$directory/softlock.conf"' EXIT
        as_root mkdir -p "$directory"
        echo 'create_main_cluster = false' | as_root tee "$directory/softlock.conf" >/dev/null
        "$@"
    )
}
