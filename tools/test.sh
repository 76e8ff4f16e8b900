#!/usr/bin/env bash
# Everything that this machine can run. Goes on after a failure; ends with where the time went, what was skipped and why,
# and, as the very last line, the count: N passed, N failed, N skipped.
#
# A test that this machine cannot run appends `name: reason` to the file that HOLDFAST_SKIPS names and returns; one that
# nobody runs by default is `#[ignore = "reason"]`. Both are listed. Seeds of the simulation are counted apart.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/stages.sh

SEEDS="${SEEDS:-2000}"
HOLDFAST_SKIPS="$(cd "$OUT" && pwd)/skips"
export HOLDFAST_SKIPS
: >"$HOLDFAST_SKIPS"

# LOCKED is one flag or nothing.
# shellcheck disable=SC2086
build() { cargo test --workspace --no-run ${LOCKED:-}; }
# shellcheck disable=SC2086
tests() { RUST_BACKTRACE="${RUST_BACKTRACE:-0}" cargo test --workspace --no-fail-fast ${LOCKED:-} 2>&1 | tee "$OUT/log"; }
# shellcheck disable=SC2086
build_simulation() { cargo build --release -p holdfast-simulation ${LOCKED:-}; }
# shellcheck disable=SC2086
simulation() { cargo run --release --quiet -p holdfast-simulation ${LOCKED:-} -- --seeds "$SEEDS"; }

: >"$OUT/log"
# A stage that fails without a test that says so counts as one failure: a build, a test program that aborts, the simulation.
broken=0
tests_status=0
seeds='not run'
if stage 'build tests' build; then
    stage tests tests || tests_status=$?
else
    broken=1
fi
if stage 'build simulation' build_simulation && stage "simulation, $SEEDS seeds" simulation; then
    seeds="$SEEDS passed"
else
    seeds='FAILED, see above'
    broken=$((broken + 1))
fi

read -r passed failed < <(awk '/^test result: /{ p += $4; f += $6 } END { print p + 0, f + 0 }' "$OUT/log")
[ $tests_status = 0 ] || [ "$failed" != 0 ] || broken=$((broken + 1))
# A test that returned early because the machine lacks something did not pass, whatever its harness says.
passed=$((passed - $(wc -l <"$HOLDFAST_SKIPS")))
sed -n 's/^test \(.*\) \.\.\. ignored, \(.*\)$/\1: \2/p; s/^test \(.*\) \.\.\. ignored$/\1: it does not say why/p' \
    "$OUT/log" >>"$HOLDFAST_SKIPS"
skipped=$(wc -l <"$HOLDFAST_SKIPS")
failed=$((failed + broken))

print_stages
printf '\ntest programs that took longest\n'
awk '/^ *Running /{ name = $NF; sub(".*/", "", name); sub("-[0-9a-f]*\\)$", "", name) } /^ *Doc-tests /{ name = $2 "(documentation)" }
    /^test result: /{ sub("s", "", $NF); printf "%-28s %8.1f\n", name, $NF }' "$OUT/log" | sort -k2,2 -rn | head -n 5
printf '\nsimulation seeds: %s\n' "$seeds"
if [ "$failed" != 0 ]; then
    printf '\nfailed\n'
    sed -n 's/^test \(.*\) \.\.\. FAILED$/  \1/p' "$OUT/log"
    awk -F '\t' '$3 == "FAILED" { print "  stage: " $1 }' "$STAGES"
fi
printf '\nskipped, and why\n'
if [ "$skipped" = 0 ]; then echo '  nothing'; else sed 's/^/  /' "$HOLDFAST_SKIPS"; fi
printf '\n%s passed, %s failed, %s skipped\n' "$passed" "$failed" "$skipped" | tee "$OUT/count"
[ "$failed" = 0 ]
