#!/usr/bin/env bash
# Fuzzes with libFuzzer on the stable toolchain: fuzz.sh TARGET SECONDS, or `all` for each target in turn.
#
# What is found new goes to target/fuzz/corpus, what crashes to target/fuzz/artifacts. To keep a case, copy it to
# e2e/fuzz/corpus/<target>: ordinary tests replay everything there.
set -euo pipefail
cd "$(dirname "$0")/.."
target="${1:-all}"
duration="${2:-60}"
triple="$(rustc -vV | sed -n 's/^host: //p')"
built="target/fuzz/$triple/release"

# What cargo-fuzz would pass, without having to install it. The triple is named so that build scripts stay as they are.
flags=(--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 -Cdebug-assertions
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares)
# So that a target which is gone from the sources is not found below.
[ ! -d "$built" ] || find "$built" -maxdepth 1 -type f -executable -delete
# LOCKED is one flag or nothing.
# shellcheck disable=SC2086
RUSTFLAGS="${flags[*]}" cargo build --release --target "$triple" --target-dir target/fuzz \
    -p holdfast-fuzz --features libfuzzer --bins ${LOCKED:-}

mapfile -t known < <(find "$built" -maxdepth 1 -type f -executable -printf '%f\n' | sort)
[ ${#known[@]} != 0 ] || { echo 'fuzz: holdfast-fuzz has no binary with the feature libfuzzer' >&2; exit 1; }
if [ "$target" = all ]; then
    chosen=("${known[@]}")
elif [ -x "$built/$target" ]; then
    chosen=("$target")
else
    printf 'fuzz: there is no target %s; TARGET is one of: %s\n' "$target" "${known[*]}" >&2
    exit 2
fi

for name in "${chosen[@]}"; do
    printf '\n== fuzz %s for %s s\n' "$name" "$duration"
    mkdir -p "target/fuzz/corpus/$name" "target/fuzz/artifacts/$name"
    seeds=()
    [ ! -d "e2e/fuzz/corpus/$name" ] || seeds+=("e2e/fuzz/corpus/$name")
    "$built/$name" -max_total_time="$duration" -print_final_stats=1 \
        -artifact_prefix="target/fuzz/artifacts/$name/" "target/fuzz/corpus/$name" "${seeds[@]}"
done
