#!/usr/bin/env bash
# Resident memory of an idle keep-alive connection, after one request each, plain and TLS.
#
#   loadtest/idle.sh ORIGIN BARE_PROXY TOLLGATE [CONFIG]      (loadtest/plain.yaml)
#   loadtest/idle.sh ORIGIN BARE_PROXY BARE_PROXY -           the same in both seats
#
# CONNECTIONS (2000) by environment. Each figure comes from a process of its own: memory that was
# used once and is free again would flatter the next one.
cd "$(dirname "$0")/.."
# shellcheck source=loadtest/lib.sh
source loadtest/lib.sh

[[ $# -ge 3 ]] || fail "usage: idle.sh ORIGIN BARE_PROXY TOLLGATE [CONFIG|-]"
connections=${CONNECTIONS:-2000}
ulimit -n "$(ulimit -Hn)"

# per_connection PID ADDRESS plain|tls ; prints KiB.
per_connection() {
    local before after client
    coproc CLIENT { exec taskset -c "$LOAD_CORE" python3 loadtest/idle.py "$2" "$3" "$connections"; }
    client=$CLIENT_PID
    started+=("$client")
    read -r -t 60 _ <&"${CLIENT[0]}" || fail "the first connection failed"
    before=$(resident_kib "$1")
    echo go >&"${CLIENT[1]}"
    read -r -t 300 _ <&"${CLIENT[0]}" || fail "not all connections could be opened"
    sleep 1
    after=$(resident_kib "$1")
    kill "$client"
    wait "$client" 2>/dev/null || true
    awk -v kib=$((after - before)) -v n="$connections" 'BEGIN { printf "%.1f\n", kib / n }'
}

# measure plain|tls ; sets bare and tollgate.
measure() {
    local kind=$1 index=0
    shift
    [[ $kind = plain ]] || index=1
    start_all "$@"
    per_connection "$floor_pid" "${FLOOR[$index]}" "$kind" >"$work/bare"
    per_connection "$seat_pid" "${SEAT[$index]}" "$kind" >"$work/tollgate"
    printf '%-6s %10s %14s\n' "$kind" "$(<"$work/bare")" "$(<"$work/tollgate")"
    stop_all
}

certificate
printf '%-6s %10s %14s   (KiB a connection, %d connections)\n' kind bare tollgate "$connections"
measure plain "$1" "$2" "$3" "${4:-loadtest/plain.yaml}"
measure tls "$1" "$2" "$3" "${4:-loadtest/plain.yaml}"
