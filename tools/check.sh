#!/usr/bin/env bash
# Formatting, lints, documentation and the architecture. Goes on after a failure, so that one run shows all of them.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/stages.sh

# The functions are called through `stage`; LOCKED is one flag or nothing.
# shellcheck disable=SC2317,SC2086
clippy() { cargo clippy --workspace --all-targets ${LOCKED:-} -- -D warnings; }
# shellcheck disable=SC2317,SC2086
docs() { RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --workspace --no-deps --document-private-items --quiet ${LOCKED:-}; }
# shellcheck disable=SC2317,SC2086
tidy() { RUST_BACKTRACE=0 cargo test -p holdfast-tidy --quiet ${LOCKED:-}; }
# shellcheck disable=SC2317
denied() { cargo deny --offline check licenses bans sources; }

failed=0
stage format cargo fmt --all --check || failed=1
stage clippy clippy || failed=1
stage docs docs || failed=1
stage tidy tidy || failed=1
if command -v cargo-deny >/dev/null 2>&1; then
    stage cargo-deny denied || failed=1
else
    printf '\nskipped cargo-deny: it is not installed; tidy has checked the licences and origins of deny.toml, not [bans]\n'
fi
[ -n "${HOLDFAST_STAGES:-}" ] || print_stages
exit $failed
