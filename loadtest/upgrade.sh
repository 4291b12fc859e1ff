#!/usr/bin/env bash
# Upgrades of the real binary under constant load: what is refused, cut or lost, and what each upgrade takes.
#
#   loadtest/upgrade.sh ORIGIN LOAD BULK TOLLGATE [NEXT]
#
# NEXT is the binary that each new process runs (TOLLGATE). UPGRADES (10) and SETTLE (3), the seconds from the end of
# one process to the next upgrade, by environment. Fails if any client was failed, or left without a word.
cd "$(dirname "$0")/.."
# shellcheck source=loadtest/lib.sh
source loadtest/lib.sh

[[ $# -ge 4 ]] || fail "usage: upgrade.sh ORIGIN LOAD BULK TOLLGATE [NEXT]"
origin=$1 load=$2 bulk=$3 tollgate=$(realpath "$4") next=$(realpath "${5:-$4}")
upgrades=${UPGRADES:-10} settle=${SETTLE:-3}
readonly plain=127.0.0.1:19011 tls=127.0.0.1:19012 downloads=127.0.0.1:19013
# 6 MiB at 1.5 MiB a second: four seconds, so one or two are under way at any time.
readonly download_bytes=$((6 << 20)) download_rate=1.5

authority
issue "$work/localhost" localhost
export LOADTEST_CERTIFICATE=$work/localhost.pem LOADTEST_KEY=$work/localhost.key LOADTEST_CONTROL=$work/control.sock

start origin "$LOAD_CORE" "$origin" "$ORIGIN"
wait_for origin "$last_started" "$ORIGIN"
start echo "$LOAD_CORE" "$load" echo 127.0.0.1:19003
wait_for echo "$last_started" 127.0.0.1:19003
start bulk "$LOAD_CORE" "$bulk" serve 127.0.0.1:19004
wait_for bulk "$last_started" 127.0.0.1:19004
start gateway "$PROXY_CORE" "$tollgate" run -c loadtest/upgrade.yaml
serving=$last_started
wait_for gateway "$serving" "$tls"

# download PROTOCOL ; one slow download after the other; a line for each.
download() {
    until [[ -e $work/over ]]; do
        if taskset -c "$LOAD_CORE" "$bulk" get "$1" "$downloads" "$download_bytes" "$download_rate" 2>>"$work/$1.log"; then
            echo whole
        else
            echo cut
        fi
    done >"$work/$1.downloads"
}

client http1 "$load" http1 "$plain" --rate 400 --connections 8
client http1-new "$load" http1 "$plain" --rate 200 --requests 10
client http1-tls "$load" http1 "$tls" --rate 400 --connections 8 --ca "$work/ca.pem"
client http2 "$load" http2 "$plain" --rate 400 --connections 4 --streams 8
client http2-tls "$load" http2 "$tls" --rate 400 --connections 4 --streams 8 --ca "$work/ca.pem"
client http2-tls-new "$load" http2 "$tls" --rate 200 --requests 50 --ca "$work/ca.pem"
client websocket "$load" websocket "$plain" --path /socket --rate 40 --requests 70
client websocket-tls "$load" websocket "$tls" --path /socket --rate 40 --requests 70 --ca "$work/ca.pem"
taskset -c "$LOAD_CORE" wrk -t1 -c16 -d1h --latency "http://$plain/" >"$work/wrk" 2>&1 </dev/null &
wrk=$!
started+=("$wrk")
for protocol in http1 http2; do
    download "$protocol" &
    started+=("$!")
    downloads_by+=("$!")
done
sleep "$settle"

printf '%-8s %10s %10s %12s %16s %14s\n' upgrade process ms 'old gone, s' 'resident KiB' descriptors
for ((i = 1; i <= upgrades; i++)); do
    began=$EPOCHREALTIME before=$serving
    said=$("$tollgate" upgrade -c loadtest/upgrade.yaml --binary "$next" 2>&1) || fail "upgrade $i: $said"
    handed=$EPOCHREALTIME
    serving=$(sed -n 's/^process \([0-9]*\) serves.*/\1/p' <<<"$said")
    [[ -n $serving && $serving != "$before" ]] || fail "upgrade $i: $said"
    started+=("$serving")
    while [[ -e /proc/$before && $(sed 's/^.*) //' "/proc/$before/stat" 2>/dev/null) != Z* ]]; do
        ((${EPOCHREALTIME%.*} - ${handed%.*} < 60)) || fail "upgrade $i: process $before does not end"
        sleep 0.1
    done
    gone=$EPOCHREALTIME
    printf '%-8s %10s %10.0f %12.1f %16s %14s\n' "$i" "$serving" \
        "$(awk -v a="$began" -v b="$handed" 'BEGIN { print (b - a) * 1000 }')" \
        "$(awk -v a="$handed" -v b="$gone" 'BEGIN { print b - a }')" "$(resident_kib "$serving")" \
        "$(find "/proc/$serving/fd" -mindepth 1 | wc -l)"
    sleep "$settle"
done
touch "$work/over"
kill -INT "$wrk"
wait "$wrk" || true
for pid in "${downloads_by[@]}"; do wait "$pid"; done
echo
finish_clients
for protocol in http1 http2; do
    whole=$(grep -c whole "$work/$protocol.downloads") || true
    cut=$(grep -c cut "$work/$protocol.downloads") || true
    printf 'slow downloads, %s: %s whole, %s cut\n' "$protocol" "$whole" "$cut"
    sed 's/^/    /' "$work/$protocol.log"
    [[ $whole -gt 0 ]] || fail "no download over $protocol came to its end"
    failures=$((failures + cut))
done
awk '/requests in/ || /Latency  / || /99%/ || /Socket errors/ || /Non-2xx/ { print "wrk: " $0 }' "$work/wrk"
grep -q 'requests in' "$work/wrk" || fail "wrk: $(<"$work/wrk")"
! grep -qE 'Socket errors|Non-2xx' "$work/wrk" || failures=$((failures + 1))
[[ $failures = 0 ]] || fail "clients were failed $failures times"
echo "$upgrades upgrades, nothing refused, cut or lost"
