# shellcheck shell=bash
# Sourced: programs that find their libraries in a place of their own.

# wrap_programs DIRECTORY LOADER LIBRARIES FILE…: moves those of the files that are programs to a directory,
# and leaves wrappers in their places, which start them through this loader, with these libraries.
wrap_programs() {
    local directory=$1 loader=$2 libraries=$3 program
    shift 3
    mkdir "$directory"
    for program in "$@"; do
        [ -f "$program" ] && [ "$(head -c 4 "$program" | tail -c 3)" = ELF ] || continue
        mv "$program" "$directory/"
        # The name that it is called by tells it where its other files are.
        cat >"$program" <<END
#!/bin/sh
exec '$loader' --library-path '$libraries' --argv0 "\$0" '$directory/${program##*/}' "\$@"
END
        chmod 755 "$program"
    done
}
