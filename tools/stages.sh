# Sourced by the other scripts: runs a stage, remembers how long it took and whether it passed, and prints the table.
# shellcheck shell=bash

OUT="${CARGO_TARGET_DIR:-target}/test"
mkdir -p "$OUT"
# CI runs several scripts one after the other, begins the file itself, and wants one table of them all.
STAGES="${HOLDFAST_STAGES:-$OUT/stages}"
[ -n "${HOLDFAST_STAGES:-}" ] || : >"$STAGES"

# stage NAME COMMAND…: its status is the command's.
stage() {
    local name="$1" start status=0
    shift
    printf '\n== %s\n' "$name"
    start="$(date +%s)"
    "$@" || status=$?
    printf '%s\t%s\t%s\n' "$name" "$(($(date +%s) - start))" "$([ $status = 0 ] && echo passed || echo FAILED)" >>"$STAGES"
    return $status
}

print_stages() {
    printf '\n%-28s %8s\n' stage seconds
    awk -F '\t' '{ printf "%-28s %8d  %s\n", $1, $2, $3; sum += $2 } END { printf "%-28s %8d\n", "all", sum }' "$STAGES"
}
