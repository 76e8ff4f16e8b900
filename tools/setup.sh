#!/usr/bin/env bash
# Installs what a build needs and this machine lacks, and says what and why. Says nothing when there is nothing to do.
#
# Debian's packages come through apt (as root or with sudo), the toolchain of rust-toolchain.toml through rustup. What is
# downloaded is kept outside the tree, by version. With OFFLINE=1 it installs nothing and only says what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
readonly CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/holdfast"
readonly PROXIES=http_proxy,https_proxy,no_proxy,HTTP_PROXY,HTTPS_PROXY,NO_PROXY

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
is_offline() { [ "${OFFLINE:-0}" != 0 ] && [ -n "${OFFLINE:-}" ]; }

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif has sudo; then
        # Nobody answers a password prompt in CI.
        sudo ${CI:+--non-interactive} --preserve-env="$PROXIES" "$@"
    else
        return 1
    fi
}

install_packages() {
    local packages=()
    # aws-lc, the cipher library, is C and assembly; Rust links with cc; fuzzing's runtime is C++.
    { has cc && has g++ && has make; } || packages+=(build-essential)
    if ! has rustup && ! toolchain_is_present; then
        has curl || packages+=(curl)
        [ -e /etc/ssl/certs/ca-certificates.crt ] || packages+=(ca-certificates)
    fi
    [ ${#packages[@]} = 0 ] && return

    local command="apt-get install -y --no-install-recommends ${packages[*]}"
    is_offline && fail "missing: ${packages[*]}. OFFLINE=1 forbids fetching them; run as root: $command"
    has apt-get || fail "missing: ${packages[*]} (Debian's names). Install them with this system's package manager."
    say "installing ${packages[*]}: the C compiler builds the cipher library, curl fetches the Rust toolchain"
    if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null; then
        [ "$(id -u)" = 0 ] || has sudo || fail "root is needed for that and there is no sudo; run as root: $command"
        fail "apt-get update failed; see above. Then, as root: $command"
    fi
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null >"$LOG" 2>&1 || {
        cat "$LOG" >&2
        fail "apt-get could not install ${packages[*]}; see above. By hand, as root: $command"
    }
}

# What tests talk to, by command and package. Without them a test is skipped and named; nothing else needs them.
readonly TEST_TOOLS='mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs fio:fio qemu-io:qemu-utils nbdinfo:libnbd-bin qemu-storage-daemon:qemu-system-common'

install_test_tools() {
    local tool packages=()
    for tool in $TEST_TOOLS; do
        PATH="$PATH:/usr/sbin:/sbin" has "${tool%%:*}" || packages+=("${tool#*:}")
    done
    [ ${#packages[@]} = 0 ] && return
    if is_offline || ! has apt-get || { [ "$(id -u)" != 0 ] && ! has sudo; }; then
        say "tests that need ${packages[*]} will be skipped: they are not here and cannot be installed now"
        return
    fi
    say "installing ${packages[*]}: file systems and clients that the tests put to work on volumes"
    { as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq </dev/null &&
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null; } >"$LOG" 2>&1 ||
        say "that failed, and the tests that need them will be skipped: $(tail -n 1 "$LOG")"
}

wanted_version() { sed -n 's/^channel *= *"\(.*\)"/\1/p' rust-toolchain.toml; }

# True for rustup's toolchain and for any other of that very version that has both components.
toolchain_is_present() {
    local found
    found="$(RUSTUP_AUTO_INSTALL=0 rustc --version 2>/dev/null)" || return 1
    [[ "$found" == "rustc $(wanted_version) "* ]] &&
        RUSTUP_AUTO_INSTALL=0 cargo fmt --version >/dev/null 2>&1 &&
        RUSTUP_AUTO_INSTALL=0 cargo clippy --version >/dev/null 2>&1
}

install_rustup() {
    has rustup && return
    is_offline && fail "there is no Rust $(wanted_version), and OFFLINE=1 forbids fetching it; run make setup once without OFFLINE"
    if has apt-cache && apt-cache policy rustup 2>/dev/null | grep -q 'Candidate: [0-9]'; then
        say "installing rustup from Debian: it fetches the pinned Rust toolchain"
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rustup </dev/null >"$LOG" 2>&1 &&
            return
        say "Debian's rustup could not be installed; going on with the one from rustup.rs"
    fi
    say "installing rustup from https://rustup.rs into ${CARGO_HOME:-$HOME/.cargo}: Debian 12 has no package of it"
    mkdir -p "$CACHE"
    # The same script at both; some networks let only the second through, which the toolchain comes from as well.
    local url fetched=
    for url in https://sh.rustup.rs https://static.rust-lang.org/rustup/rustup-init.sh; do
        curl --proto '=https' --tlsv1.2 -fsSL --retry 2 -o "$CACHE/rustup-init.sh" "$url" && fetched=1 && break
    done
    [ -n "$fetched" ] || fail "rustup could not be fetched; install it by hand (https://rustup.rs) and run this again"
    sh "$CACHE/rustup-init.sh" -y -q --no-modify-path --profile minimal --default-toolchain none </dev/null
    hash -r
    has rustup || fail "rustup was installed but is not found in $PATH"
}

install_toolchain() {
    toolchain_is_present && return
    install_rustup
    toolchain_is_present && return
    local version components
    version="$(wanted_version)"
    components="$(sed -n 's/^components *= *\[\(.*\)\]/\1/p' rust-toolchain.toml | tr -d '" ')"
    is_offline && fail "Rust $version is missing, and OFFLINE=1 forbids fetching it; run make setup once without OFFLINE"
    say "installing Rust $version ($components) through rustup: rust-toolchain.toml asks for it"
    rustup toolchain install "$version" --profile minimal --component "$components" --no-self-update </dev/null
    toolchain_is_present || fail "Rust $version was installed, yet 'rustc --version' does not say so; see: rustup show"
}

LOG="$(mktemp)"
readonly LOG
trap 'rm -f "$LOG"' EXIT
install_packages
install_toolchain
install_test_tools
