#!/usr/bin/env bash
# CPU per request of a plain forward: Tollgate beside a bare Pingora proxy, each alone on one core.
#
#   loadtest/plain.sh ORIGIN BARE_PROXY TOLLGATE [CONFIG]     (loadtest/plain.yaml)
#   loadtest/plain.sh ORIGIN BARE_PROXY BARE_PROXY -          the same in both seats: how far to trust it
#
# ROUNDS (7), SECONDS_EACH (5), CONNECTIONS (64), URL_PATH (/) by environment, and who speaks what: CLIENT
# is http1 (wrk) or http2 (h2load in the clear, 4 connections of 16 streams), UPSTREAM http1, http2 in the
# clear, or tls (both nginx); CLIENT=http2 needs UPSTREAM=http2. RATE (none) is how many requests a second
# all connections together send: without one each proxy is driven as fast as it goes, and the faster one keeps
# client and origin awake, which spares it the waking that the slower one pays for. Rounds alternate,
# so that whatever else the machine does hits both; figures are medians.
cd "$(dirname "$0")/.."
# shellcheck source=loadtest/lib.sh
source loadtest/lib.sh

[[ $# -ge 3 ]] || fail "usage: plain.sh ORIGIN BARE_PROXY TOLLGATE [CONFIG|-]"
rounds=${ROUNDS:-7} seconds=${SECONDS_EACH:-5} connections=${CONNECTIONS:-64} path=${URL_PATH:-/}

# load ADDRESS SECONDS ; prints how many requests were answered, fails on any error.
load() {
    if [[ ${CLIENT:-http1} = http2 ]]; then load_http2 "$@"; else load_http1 "$@"; fi
}

load_http2() {
    load_h2load "$1" "$2" -c4 -m16
}

# load_h2load ADDRESS SECONDS HOW… ; the same by h2load.
load_h2load() {
    local report address=$1 time=$2
    shift 2
    report=$(taskset -c "$LOAD_CORE" h2load -t1 -D "$time" "$@" "http://$address$path" 2>&1) ||
        fail "h2load ended with an error:"$'\n'"$report"
    awk '/^requests:/ { failed = $10 + $12 + $14 }
         /^status codes:/ { ok = $3; other = $5 + $7 + $9 }
         END { print ok; exit !(failed == 0 && other == 0 && ok > 0) }' <<<"$report" ||
        fail "errors under load:"$'\n'"$report"
}

# With RATE the clients keep to it, so that both proxies get the same load.
load_http1() {
    if [[ -n ${RATE:-} ]]; then
        load_h2load "$1" "$2" --h1 -c"$connections" --rps="$((RATE / connections))"
        return
    fi
    local report requests
    report=$(taskset -c "$LOAD_CORE" wrk -t1 -c"$connections" -d"$2s" "http://$1$path")
    ! grep -qE 'Socket errors|Non-2xx' <<<"$report" || fail "errors under load:"$'\n'"$report"
    requests=$(awk '/requests in/ { print $1 }' <<<"$report")
    [[ $requests -gt 0 ]] || fail "no request was answered:"$'\n'"$report"
    echo "$requests"
}

# round PID ADDRESS ; prints CPU microseconds per request and requests per second.
round() {
    local before after requests
    before=$(cpu_ticks_at_rest "$1")
    requests=$(load "$2" "$seconds")
    after=$(cpu_ticks_at_rest "$1")
    awk -v ticks=$((after - before)) -v hz="$(getconf CLK_TCK)" -v n="$requests" -v s="$seconds" \
        'BEGIN { printf "%.2f %.0f\n", ticks * 1e6 / hz / n, n / s }'
}

certificate
start_all "$1" "$2" "$3" "${4:-loadtest/plain.yaml}"
load "${FLOOR[0]}" 1 >/dev/null
load "${SEAT[0]}" 1 >/dev/null

floors=() seats=() ratios=()
printf '%-6s %14s %14s %8s %12s %12s\n' round 'bare us/req' 'tollgate us/req' ratio 'bare req/s' 'tollgate req/s'
for ((i = 1; i <= rounds; i++)); do
    read -r floor floor_rate < <(round "$floor_pid" "${FLOOR[0]}")
    read -r seat seat_rate < <(round "$seat_pid" "${SEAT[0]}")
    ratio=$(awk -v a="$seat" -v b="$floor" 'BEGIN { printf "%.3f", a / b }')
    floors+=("$floor") seats+=("$seat") ratios+=("$ratio")
    printf '%-6s %14s %14s %8s %12s %12s\n' "$i" "$floor" "$seat" "$ratio" "$floor_rate" "$seat_rate"
done
printf '%-6s %14s %14s %8s\n' median "$(median "${floors[@]}")" "$(median "${seats[@]}")" "$(median "${ratios[@]}")"
