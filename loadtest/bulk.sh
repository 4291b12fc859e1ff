#!/usr/bin/env bash
# Peak resident memory of the gateway while a large body passes, for every pair of protocols and in
# both directions; and, for downloads, with a client that reads slowly (a sixteenth of the size).
#
#   loadtest/bulk.sh BULK TOLLGATE
#
# MIB (1024) the size of a body, RATE (16) what the slow client reads, in MiB a second, by environment.
# Each figure is of a process of its own: VmHWM, and how much of it was there before the body.
cd "$(dirname "$0")/.."
# shellcheck source=loadtest/lib.sh
source loadtest/lib.sh

[[ $# -eq 2 ]] || fail "usage: bulk.sh BULK TOLLGATE"
bulk=$1 tollgate=$2 mib=${MIB:-1024} rate=${RATE:-16}
bytes=$((mib << 20))

peak_kib() {
    awk '/^VmHWM:/ { print $2 }' "/proc/$1/status"
}

# pair METHOD CLIENT UPSTREAM BYTES [RATE] ; prints one line.
pair() {
    local config=$work/bulk.yaml before after began=$EPOCHREALTIME
    sed "/^routes:/,\$ s/to: .* }/to: $3 }/" loadtest/bulk.yaml >"$config"
    start origin "$LOAD_CORE" "$bulk" serve "$ORIGIN"
    wait_for origin "$last_started" "$ORIGIN"
    start gateway "$PROXY_CORE" "$tollgate" run -c "$config"
    local gateway=$last_started
    wait_for gateway "$gateway" "${SEAT[0]}"
    taskset -c "$LOAD_CORE" "$bulk" get "$2" "${SEAT[0]}" 1 || fail "the gateway does not answer"
    before=$(peak_kib "$gateway")
    taskset -c "$LOAD_CORE" "$bulk" "$1" "$2" "${SEAT[0]}" "$4" ${5:+"$5"} || fail "$1 $2 $3 failed"
    after=$(peak_kib "$gateway")
    stop_all
    printf '%-10s %-8s %-8s %8s %8s %14s %14s\n' "$1${5:+, slow}" "$2" "$3" $(($4 >> 20)) \
        "$(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')" "$after" $((after - before))
}

printf '%-10s %-8s %-8s %8s %8s %14s %14s\n' what client upstream MiB seconds 'peak RSS KiB' 'of it for this'
for upstream in http1 http2; do
    for client in http1 http2; do
        pair get "$client" "$upstream" "$bytes"
        pair put "$client" "$upstream" "$bytes"
        pair get "$client" "$upstream" $((bytes / 16)) "$rate"
    done
done
