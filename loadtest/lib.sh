# Sourced by the load tests: what is started, where it listens, what it costs.
# Two cores: the proxy under test has the first to itself, the load and the origin share the second.
# shellcheck shell=bash
set -euo pipefail

readonly PROXY_CORE=0 LOAD_CORE=1
readonly ORIGIN=127.0.0.1:19000
# plain, TLS
readonly FLOOR=(127.0.0.1:19001 127.0.0.1:19002)
# loadtest/plain.yaml has these two and the origin's.
readonly SEAT=(127.0.0.1:19011 127.0.0.1:19012)

work=$(mktemp -d)
readonly work
started=()
last_started=

fail() {
    echo "loadtest: $1" >&2
    exit 1
}

stop_all() {
    local pid
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${started[@]}"; do wait "$pid" 2>/dev/null || true; done
    started=()
}
trap 'stop_all; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# start NAME CORE COMMAND… ; what it logs to standard output goes nowhere, the cost of writing it stays.
start() {
    local name=$1 core=$2
    shift 2
    taskset -c "$core" "$@" >/dev/null 2>"$work/$name.log" </dev/null &
    last_started=$!
    started+=("$last_started")
}

# wait_for NAME PID ADDRESS
wait_for() {
    local deadline=$((SECONDS + 20))
    until (exec 3<>"/dev/tcp/${3%:*}/${3#*:}") 2>/dev/null; do
        kill -0 "$2" 2>/dev/null || fail "$1 did not start: $(tail -5 "$work/$1.log")"
        ((SECONDS < deadline)) || fail "$1 does not listen on $3: $(tail -5 "$work/$1.log")"
        sleep 0.05
    done
}

certificate() {
    export LOADTEST_CERTIFICATE=$work/certificate.pem LOADTEST_KEY=$work/key.pem
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost -out "$LOADTEST_CERTIFICATE" -keyout "$LOADTEST_KEY" 2>/dev/null
}

# start_all ORIGIN BARE_PROXY TOLLGATE CONFIG ; sets floor_pid and seat_pid.
start_all() {
    local tls=("$LOADTEST_CERTIFICATE" "$LOADTEST_KEY")
    start origin "$LOAD_CORE" "$1" "$ORIGIN"
    wait_for origin "$last_started" "$ORIGIN"
    start floor "$PROXY_CORE" "$2" 1 "$ORIGIN" "${FLOOR[0]}" "${FLOOR[1]}" "${tls[@]}"
    floor_pid=$last_started
    wait_for floor "$floor_pid" "${FLOOR[1]}"
    if [[ $4 = - ]]; then
        start seat "$PROXY_CORE" "$3" 1 "$ORIGIN" "${SEAT[0]}" "${SEAT[1]}" "${tls[@]}"
    else
        start seat "$PROXY_CORE" "$3" run -c "$4"
    fi
    seat_pid=$last_started
    wait_for seat "$seat_pid" "${SEAT[0]}"
    wait_for seat "$seat_pid" "${SEAT[1]}"
}

# CPU time of a process since it began, all threads, in clock ticks. (comm may hold blanks.)
cpu_ticks() {
    sed 's/^.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'
}

# The same once it has come to rest: what was left to do belongs to the requests before.
cpu_ticks_at_rest() {
    local last now deadline=$((SECONDS + 5))
    now=$(cpu_ticks "$1")
    until [[ $now = "${last:-}" ]] || ((SECONDS >= deadline)); do
        last=$now
        sleep 0.2
        now=$(cpu_ticks "$1")
    done
    echo "$now"
}

resident_kib() {
    awk '/^VmRSS:/ { print $2 }' "/proc/$1/status"
}

median() {
    printf '%s\n' "$@" | sort -g | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
