#!/usr/bin/env bash
# Clients that hold connections and do nothing with them (loadtest/slow.py): what the others notice, what memory they
# take, and when each is got rid of.
#
#   loadtest/slow_clients.sh ORIGIN LOAD BULK TOLLGATE [KIND…]
#
# SECONDS_EACH (10) by environment: how long the others are measured, before a crowd has come and while it is there.
# Whoever was closed is replaced meanwhile. Fails if a client of the others is failed, if their p99 more than doubles
# (by more than a millisecond), or if a connection lives longer than its limit by more than GRACE (5) seconds.
cd "$(dirname "$0")/.."
# shellcheck source=loadtest/lib.sh
source loadtest/lib.sh

[[ $# -ge 4 ]] || fail "usage: slow_clients.sh ORIGIN LOAD BULK TOLLGATE [KIND…]"
origin=$1 load=$2 bulk=$3 tollgate=$4
shift 4
seconds=${SECONDS_EACH:-10} grace=${GRACE:-5}
readonly plain=127.0.0.1:19011 tls=127.0.0.1:19012 h2c=127.0.0.1:19013
ulimit -n "$(ulimit -Hn)"
[[ $(ulimit -n) -ge 20000 ]] || fail "this needs 20000 file descriptors, and the limit is $(ulimit -n)"

# What each does, connections, addresses, where, and how many seconds each may last.
crowds=(
    "headers 2000 4 $plain 10"
    "headers2 500 2 $h2c 20"
    "bodies 500 2 $plain 10"
    "readers 200 1 $plain 10"
    "idle 10000 16 $plain 20"
    "handshakes 2000 4 $tls 10"
    "cap 3000 1 $plain 20"
)

authority
issue "$work/localhost" localhost
export LOADTEST_CERTIFICATE=$work/localhost.pem LOADTEST_KEY=$work/localhost.key
start origin "$LOAD_CORE" "$origin" "$ORIGIN"
wait_for origin "$last_started" "$ORIGIN"
# What makes the crowd gives way to what measures the others: they share a core here, as they would not elsewhere.
start bulk "$LOAD_CORE" nice -n 15 "$bulk" serve 127.0.0.1:19004
wait_for bulk "$last_started" 127.0.0.1:19004
start gateway "$PROXY_CORE" "$tollgate" run -c loadtest/slow_clients.yaml
gateway=$last_started
wait_for gateway "$gateway" "$h2c"

# others NAME ; the clients that do what they should; their lines go to $work/NAME-*.line.
others() {
    local pids=() pid
    one() {
        taskset -c "$LOAD_CORE" "$load" "$2" "$3" --seconds "$seconds" "${@:4}" >"$work/$1.line" 2>"$work/$1.log"
    }
    one "$1-kept" http1 "$plain" --rate 500 --connections 16 &
    pids+=("$!")
    one "$1-tls" http2 "$tls" --rate 500 --connections 4 --streams 8 --ca "$work/ca.pem" &
    pids+=("$!")
    one "$1-new" http1 "$plain" --rate 100 --requests 1 &
    pids+=("$!")
    for pid in "${pids[@]}"; do wait "$pid" || fail "a client: $(cat "$work/$1"-*.log)"; done
    for pid in kept tls new; do
        [[ $(field "$work/$1-$pid.line" failed) = 0 && $(field "$work/$1-$pid.line" silent) = 0 ]] ||
            fail "$1, $pid: $(<"$work/$1-$pid.line") $(<"$work/$1-$pid.log")"
    done
}

bad=()
# disturb KIND COUNT ADDRESSES WHERE LIMIT ; prints one line.
disturb() {
    local kind=$1 count=$2 limit=$5 before during after line client p99 p99_during verdict
    before=$(resident_kib "$gateway")
    others calm
    coproc CROWD { exec taskset -c "$LOAD_CORE" nice -n 15 python3 loadtest/slow.py "$kind" "$4" "$count" "$3" 2>"$work/$kind.log"; }
    local crowd=$CROWD_PID
    started+=("$crowd")
    read -r -t 60 _ <&"${CROWD[0]}" || fail "$kind: the crowd did not come: $(<"$work/$kind.log")"
    others crowded
    during=$(resident_kib "$gateway")
    echo over >&"${CROWD[1]}"
    read -r -t 90 line <&"${CROWD[0]}" || fail "$kind: $(<"$work/$kind.log")"
    wait "$crowd" || true
    after=$(resident_kib "$gateway")
    echo "$line" >"$work/$kind.line"
    printf '%-12s %6s %9s %9s %9s %9s' "$kind" "$count" "$before" "$during" "$after" \
        "$(awk -v a="$before" -v b="$during" -v n="$count" 'BEGIN { printf "%.1f", (b - a) / n }')"
    for client in kept tls new; do
        p99=$(field "$work/calm-$client.line" p99_us) p99_during=$(field "$work/crowded-$client.line" p99_us)
        printf ' %7s %7s' "$p99" "$p99_during"
        ((p99_during <= 2 * p99 || p99_during - p99 <= 1000)) || bad+=("$kind: p99 of $client from $p99 to $p99_during us")
    done
    printf ' %6s %6s %6s %6s %8s %5s\n' "$limit" "$(field "$work/$kind.line" first)" "$(field "$work/$kind.line" median)" \
        "$(field "$work/$kind.line" last)" "$(field "$work/$kind.line" closed)/$(field "$work/$kind.line" refused)" \
        "$(field "$work/$kind.line" left)"
    if [[ $kind = cap ]]; then
        [[ $(field "$work/$kind.line" left) -le 1000 && $(field "$work/$kind.line" refused) -gt 2000 ]] || bad+=("$kind: $line")
    else
        verdict=$(awk -v last="$(field "$work/$kind.line" last)" -v limit=$((limit + grace)) 'BEGIN { print last <= limit }')
        [[ $verdict = 1 && $(field "$work/$kind.line" left) = 0 && $(field "$work/$kind.line" closed) -ge $count ]] ||
            bad+=("$kind: $line")
    fi
}

others warm
echo 'resident KiB; p99 of the others in us, undisturbed and then beside the crowd; seconds until a connection was closed'
printf '%-12s %6s %9s %9s %9s %9s %15s %15s %15s %6s %6s %6s %6s %8s %5s\n' kind count before during after each \
    'HTTP/1.1 kept' 'TLS, HTTP/2' 'HTTP/1.1 new' limit first median last closed/refused left
for crowd in "${crowds[@]}"; do
    read -r -a crowd <<<"$crowd"
    [[ $# = 0 || " $* " = *" ${crowd[0]} "* ]] || continue
    disturb "${crowd[@]}"
    # Descriptors and memory of the crowd before are given back.
    sleep 2
done
for reason in "${bad[@]}"; do echo "loadtest: $reason" >&2; done
[[ ${#bad[@]} = 0 ]] || exit 1
echo "all within their limits"
