#!/usr/bin/env bash
# How long a gateway with many consumers takes to start, what memory they take, and what finding one costs.
#
#   loadtest/consumers.sh TOLLGATE      (a release build)
#
# COUNTS ("10000 1000000") and SECONDS_EACH (10) by environment. Each consumer has a plan, two groups, an API key and a
# subject of a token issuer. Requests present the keys of 10,000 consumers from all over the file, so that what a
# consumer costs when it is first seen weighs alike. Nothing is behind the gateway, which answers by itself.
cd "$(dirname "$0")/.."
# shellcheck source=loadtest/lib.sh
source loadtest/lib.sh

[[ $# -eq 1 ]] || fail "usage: consumers.sh TOLLGATE"
read -ra counts <<<"${COUNTS:-10000 1000000}"
readonly ADMIN=127.0.0.1:19099 WEB=127.0.0.1:19011

now_ms() { date +%s%3N; }

# consumers COUNT ; the keys are `key-of-consumer-N`, in full.
consumers() {
    python3 - "$1" "$work/consumers.jsonl" <<'PYTHON'
import hashlib, sys

count, path = int(sys.argv[1]), sys.argv[2]
with open(path, "w") as file:
    for n in range(count):
        digest = hashlib.sha256(f"key-of-consumer-{n:08}".encode()).hexdigest()
        file.write(
            f'{{"name":"consumer-{n:08}","plan":"{("gold", "free")[n % 2]}","groups":["g{n % 50}","all"],'
            f'"credentials":[{{"api_key":{{"sha256":"{digest}"}}}},'
            f'{{"jwt":{{"provider":"main","subject":"user-{n:08}"}}}}]}}\n'
        )
PYTHON
}

cat >"$work/gateway.yaml" <<YAML
version: 1
process: { workers: 1 }
admin: { address: "$ADMIN" }
telemetry: { access_log: off }
listeners: { web: { address: "$WEB", limits: { requests: 100000000 } } }
identity:
  providers:
    main: { jwt: { issuer: "https://id.example", audiences: [api], algorithms: [ES256], keys: { url: "http://127.0.0.1:1/" } } }
plans: { gold: {}, free: {} }
consumers: { file: consumers.jsonl }
routes:
  known:
    match: { path: /known }
    policies: { authenticate: { any_of: [{ api_key: { header: x-api-key } }] } }
    to: { respond: { body: ok } }
  anybody: { match: { path: /anybody }, to: { respond: { body: ok } } }
YAML

cat >"$work/keys.lua" <<'LUA'
-- 10,000 consumers spread over the whole file, each next one far from the last.
local count, path = tonumber(os.getenv("COUNT")), os.getenv("ASKED")
local asked = math.min(count, 10000)
local n, apart = 0, math.floor(count / asked)
function request()
    n = (n + 6181) % asked
    return wrk.format("GET", path, { ["x-api-key"] = string.format("key-of-consumer-%08d", n * apart) })
end
local wrong = 0
function response(status) if status ~= 200 then wrong = wrong + 1; if wrong == 1 then io.stderr:write("status ", status, "\n") end end end
LUA

# cpu_of PATH ; microseconds of CPU a request.
cpu_of() {
    local before after answered ticks
    before=$(cpu_ticks_at_rest "$gateway")
    answered=$(COUNT=$count ASKED=$1 taskset -c "$LOAD_CORE" wrk -t1 -c8 -d"${SECONDS_EACH:-10}s" -s "$work/keys.lua" "http://$WEB" |
        tee "$work/wrk.log" | awk '/requests in/ { print $1 }')
    ! grep -q "Non-2xx" "$work/wrk.log" || fail "some were refused: $(<"$work/wrk.log")"
    after=$(cpu_ticks_at_rest "$gateway")
    ticks=$(getconf CLK_TCK)
    awk -v t=$((after - before)) -v hz="$ticks" -v n="$answered" 'BEGIN { printf "%.2f", t / hz * 1e6 / n }'
}

printf '%10s %10s %12s %12s %12s %12s %14s %14s\n' consumers "file MiB" "start ms" "start CPU s" "ready MiB" "peak MiB" "known us" "anybody us"
for count in "${counts[@]}"; do
    consumers "$count"
    began=$(now_ms)
    start gateway "$PROXY_CORE" "$1" run -c "$work/gateway.yaml"
    gateway=$last_started
    until curl -sf "http://$ADMIN/readyz" >/dev/null; do
        kill -0 "$gateway" 2>/dev/null || fail "the gateway ended: $(tail -5 "$work/gateway.log")"
        (($(now_ms) - began < 120000)) || fail "the gateway is not ready after two minutes"
        sleep 0.02
    done
    took=$(($(now_ms) - began))
    cpu=$(awk -v t="$(cpu_ticks "$gateway")" -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.2f", t / hz }')
    resident=$(resident_kib "$gateway")
    peak=$(awk '/^VmHWM:/ { print $2 }' "/proc/$gateway/status")
    size=$(stat -c %s "$work/consumers.jsonl")
    anybody=$(cpu_of /anybody)
    known=$(cpu_of /known)
    printf '%10d %10d %12d %12s %12d %12d %14s %14s\n' "$count" $((size >> 20)) "$took" "$cpu" $((resident / 1024)) \
        $((peak / 1024)) "$known" "$anybody"
    echo "           after $(awk '/requests in/ { print $1 }' "$work/wrk.log") requests with keys: $(($(resident_kib "$gateway") / 1024)) MiB"
    stop_all
done
