# shellcheck shell=bash
# Sourced: apt on package lists of its own, which name the release of Debian that has a version of
# PostgreSQL, on the mirror that this machine uses anyway. The machine's lists and sources stay as
# they are, and no rights are needed.

# debian_archive VERSION: sets archives, the places to look in, the likeliest first, and apt, a
# directory to work in.
debian_archive() {
    local release sites mirror security
    case $1 in
        13) release=bullseye ;;
        15) release=bookworm ;;
        17) release=trixie ;;
        *) release=forky ;;
    esac
    sites=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | sort -u)
    mirror=$(grep -m 1 '/debian/\?$' <<<"$sites" || true)
    security=$(grep -m 1 '/debian-security/\?$' <<<"$sites" || true)
    [ -n "$mirror" ] ||
        die "this machine uses no Debian mirror to get PostgreSQL $1 from; give PG_CONFIG=/path/to/pg_config"
    archives=(${security:+"$security $release-security"} "$mirror $release" "$mirror sid")
    apt=$SOFTLOCK_CACHE/apt-$1
    rm -rf "$apt"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    touch "$apt/status" # of an empty system
}

# private_apt COMMAND ARGUMENT…: apt-get or apt-cache on the lists of its own.
private_apt() {
    local program=$1
    shift
    "$program" -o Dir::State::Lists="$apt/lists" -o Dir::State::Status="$apt/status" \
        -o Dir::Cache="$apt/cache" -o Dir::Etc::SourceParts=- -o Dir::Etc::SourceList="$apt/sources.list" \
        -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=true "$@"
}

# use_archives deb|deb-src ARCHIVE…: makes these, and no others, its archives.
use_archives() {
    local type=$1
    shift
    printf "$type [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s main\n" "$@" >"$apt/sources.list"
    private_apt apt-get update -q
}
