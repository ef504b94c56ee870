# shellcheck shell=bash
# Sourced: puts what has been built in its place.

# place_softlock BUILT LIBRARY EXTENSION: copies what lies below BUILT to these directories, which servers
# may be running on. What others point to comes first: the library has what the scripts ask for, and the
# control file names scripts that are there.
place_softlock() {
    local built=$1 library=$2 extension=$3 place from
    place=$(dirname "${BASH_SOURCE[0]}")/place
    from=$(dirname "$(find "$built" -name softlock.control)")
    "$place" 755 "$library" "$(find "$built" -name softlock.so)"
    "$place" 644 "$extension" "$from"/softlock--*.sql
    "$place" 644 "$extension" "$from/softlock.control"
}
