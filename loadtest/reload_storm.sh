#!/usr/bin/env bash
# Reloads that add and remove routes, endpoints, certificates and a listener and change limits, under constant load:
# no failed request, no connection that ends, memory and descriptors flat, no snapshot left.
#
#   loadtest/reload_storm.sh ORIGIN LOAD BULK TOLLGATE
#
# RELOADS (1000) and PAUSE (0.05), the seconds between two of them, by environment. The configurations are those of
# loadtest/storm.py.
cd "$(dirname "$0")/.."
# shellcheck source=loadtest/lib.sh
source loadtest/lib.sh

[[ $# -eq 4 ]] || fail "usage: reload_storm.sh ORIGIN LOAD BULK TOLLGATE"
origin=$1 load=$2 bulk=$3 tollgate=$4
reloads=${RELOADS:-1000} pause=${PAUSE:-0.05}
readonly plain=127.0.0.1:19011 tls=127.0.0.1:19012 downloads=127.0.0.1:19013 admin=127.0.0.1:19019

authority
mkdir "$work/certificates"
for number in {0..3}; do issue "$work/certificates/localhost-$number" localhost; done
for number in {0..11}; do issue "$work/certificates/site-$number" "site-$number.test"; done
config=$work/gateway.yaml

storm() {
    taskset -c "$LOAD_CORE" python3 loadtest/storm.py "$config" "$work/certificates" "$admin" "$@"
}

for address in "$ORIGIN" 127.0.0.1:19003 127.0.0.1:19005; do
    start "origin-${address#*:}" "$LOAD_CORE" "$origin" "$address"
    wait_for "origin-${address#*:}" "$last_started" "$address"
done
start bulk "$LOAD_CORE" "$bulk" serve 127.0.0.1:19004
wait_for bulk "$last_started" 127.0.0.1:19004
storm 0 0 0
start gateway "$PROXY_CORE" "$tollgate" run -c "$config"
gateway=$last_started
wait_for gateway "$gateway" "$tls"

metric() {
    curl -s "http://$admin/metrics" | awk -v name="$1" '$1 == name { print $2 }'
}

descriptors() {
    find "/proc/$gateway/fd" -mindepth 1 | wc -l
}

# A download holds its snapshot for some two seconds, so that there are always some to be let go.
download() {
    until [[ -e $work/over ]]; do
        taskset -c "$LOAD_CORE" "$bulk" get http1 "$downloads" $((4 << 20)) 2 2>>"$work/download.log" || echo cut
    done >"$work/downloads"
}

# The first listener answers before the gateway has opened all that it keeps open.
at_rest=0
until [[ $(metric tollgate_snapshots) = 1 && $(descriptors) = "$at_rest" ]]; do
    at_rest=$(descriptors)
    sleep 1
done
client http1 "$load" http1 "$plain" --rate 400 --connections 8
client http1-tls "$load" http1 "$tls" --rate 400 --connections 8 --ca "$work/ca.pem"
client http2 "$load" http2 "$plain" --rate 400 --connections 4 --streams 8
client http2-tls "$load" http2 "$tls" --rate 400 --connections 4 --streams 8 --ca "$work/ca.pem"
client http1-new "$load" http1 "$plain" --rate 200 --requests 10
client http1-tls-new "$load" http1 "$tls" --rate 200 --requests 10 --ca "$work/ca.pem"
client http2-tls-new "$load" http2 "$tls" --rate 200 --requests 20 --ca "$work/ca.pem"
taskset -c "$LOAD_CORE" wrk -t1 -c8 -d1h "http://$plain/" >"$work/wrk" 2>&1 </dev/null &
wrk=$!
started+=("$wrk")
download &
downloading=$!
started+=("$downloading")
sleep 2
began=$SECONDS
flat=yes
storm "$gateway" "$reloads" "$pause" || flat=no
echo "$reloads reloads in $((SECONDS - began)) s"
kill -INT "$wrk"
wait "$wrk" || true
touch "$work/over"
wait "$downloading"
echo
lasting=(http1:8 http1-tls:8 http2:4 http2-tls:4)
finish_clients
awk '/requests in/ || /Socket errors/ || /Non-2xx/ { print "wrk: " $0 }' "$work/wrk"
grep -q 'requests in' "$work/wrk" || fail "wrk: $(<"$work/wrk")"
! grep -qE 'Socket errors|Non-2xx' "$work/wrk" || fail "wrk was failed"
[[ $failures = 0 && ! -s $work/downloads ]] || fail "clients were failed: $failures; downloads: $(<"$work/download.log")"
for entry in "${lasting[@]}"; do
    opened=$(field "$work/${entry%:*}.line" opened)
    [[ $opened = "${entry#*:}" ]] || fail "${entry%:*} needed $opened connections where ${entry#*:} would do"
done
# Pooled connections to upstreams end after 55 idle seconds.
deadline=$((SECONDS + 70))
# A listener more or less, and the connection of the question.
until [[ $(metric tollgate_snapshots) = 1 && $(descriptors) -le $((at_rest + 6)) ]]; do
    ((SECONDS < deadline)) ||
        fail "left: $(metric tollgate_snapshots) snapshots, $(descriptors) descriptors where there were $at_rest"
    sleep 0.2
done
[[ $flat = yes ]] || fail "not flat"
echo "no request failed, no connection ended; one snapshot is left, and $(descriptors) descriptors of $at_rest at first"
