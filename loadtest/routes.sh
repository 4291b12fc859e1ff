#!/usr/bin/env bash
# How long a gateway with many routes takes to start, and to reload when one of its files changed.
#
#   loadtest/routes.sh TOLLGATE      (a release build)
#
# FILES (100) and EACH (1000) by environment: 100,000 routes in a folder of 100 files.
cd "$(dirname "$0")/.."
# shellcheck source=loadtest/lib.sh
source loadtest/lib.sh

[[ $# -eq 1 ]] || fail "usage: routes.sh TOLLGATE"
files=${FILES:-100} each=${EACH:-1000}
readonly ADMIN=http://127.0.0.1:19099
python3 loadtest/routes.py "$work/conf" "$files" "$each" "$ORIGIN"

now_ms() { date +%s%3N; }
metric() { curl -s "$ADMIN/metrics" | awk -v name="$1" '$1 == name { print $2 }'; }

# On both cores: this is about the gateway alone.
began=$(now_ms)
"$1" run -c "$work/conf" >/dev/null 2>"$work/gateway.log" </dev/null &
started+=($!)
gateway=$!
until curl -sf "$ADMIN/readyz" >/dev/null; do
    kill -0 "$gateway" 2>/dev/null || fail "the gateway ended: $(tail -5 "$work/gateway.log")"
    (($(now_ms) - began < 120000)) || fail "the gateway is not ready after two minutes"
    sleep 0.02
done
echo "routes: $((files * each)), start to ready: $(($(now_ms) - began)) ms, resident: $(($(resident_kib "$gateway") / 1024)) MiB"

for ((round = 1; round <= 3; round++)); do
    before=$(metric 'tollgate_reloads_total{outcome="applied"}')
    echo "  extra-$round: { match: { path: /extra-$round }, to: origin }" >>"$work/conf/routes-007.yaml"
    began=$(now_ms)
    until [[ $(metric 'tollgate_reloads_total{outcome="applied"}') != "$before" ]]; do
        (($(now_ms) - began < 60000)) || fail "no reload within a minute: $(tail -5 "$work/gateway.log")"
        sleep 0.02
    done
    took=$(grep -o 'took_ms=[0-9]*' "$work/gateway.log" | tail -1)
    echo "one file of $files changed, to in force: $(($(now_ms) - began)) ms (of them 250 to settle; the reload itself $took), resident: $(($(resident_kib "$gateway") / 1024)) MiB"
done
