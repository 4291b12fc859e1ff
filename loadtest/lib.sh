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
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost -out "$LOADTEST_CERTIFICATE" -keyout "$LOADTEST_KEY" 2>/dev/null
}

# start_nginx CORE LISTEN ; two bytes for every path, LISTEN as nginx's directive has it ("ADDRESS ssl").
start_nginx() {
    authority
    issue "$work/origin" localhost
    mkdir -p "$work/nginx"
    cat >"$work/nginx.conf" <<END
worker_processes 1; daemon off; pid $work/nginx/pid; error_log $work/nginx/error.log;
events { worker_connections 4096; }
http {
    access_log off; keepalive_requests 100000000; http2_max_concurrent_streams 1024;
    client_body_temp_path $work/nginx/a; proxy_temp_path $work/nginx/b; fastcgi_temp_path $work/nginx/c;
    uwsgi_temp_path $work/nginx/d; scgi_temp_path $work/nginx/e;
    ssl_certificate $work/origin.pem; ssl_certificate_key $work/origin.key;
    server { listen $2; location / { return 200 "ok"; } }
}
END
    start nginx "$1" nginx -c "$work/nginx.conf" -p "$work/nginx"
    wait_for nginx "$last_started" "${2%% *}"
}

# The configuration $1 for $UPSTREAM, which speaks http1 (as it stands), http2 in the clear, or tls; and
# with cleartext HTTP/2 on the plain listener where the upstream speaks it.
configuration_for_upstream() {
    local given=$1 made=$work/gateway.yaml
    case ${UPSTREAM:-http1} in
        http1) made=$given ;;
        http2)
            sed -e "s|^    endpoints: .*|&\n    protocol: http2|" \
                -e "s|^    address: ${SEAT[0]}|&\n    h2c: true|" "$given" >"$made" ;;
        tls) sed "s|^    endpoints: .*|&\n    tls: { ca: $work/ca.pem, server_name: localhost }|" "$given" >"$made" ;;
        *) fail "UPSTREAM is http1, http2 or tls" ;;
    esac
    echo "$made"
}

# start_all ORIGIN BARE_PROXY TOLLGATE CONFIG ; sets floor_pid and seat_pid. UPSTREAM (http1) by environment:
# with http2 and tls the origin is nginx.
start_all() {
    local tls=("$LOADTEST_CERTIFICATE" "$LOADTEST_KEY") upstream=$ORIGIN config
    case ${UPSTREAM:-http1} in
        http1)
            start origin "$LOAD_CORE" "$1" "$ORIGIN"
            wait_for origin "$last_started" "$ORIGIN" ;;
        http2)
            start_nginx "$LOAD_CORE" "$ORIGIN http2"
            upstream=h2:$ORIGIN ;;
        tls)
            start_nginx "$LOAD_CORE" "$ORIGIN ssl"
            upstream=tls:$ORIGIN ;;
        *) fail "UPSTREAM is http1, http2 or tls" ;;
    esac
    start floor "$PROXY_CORE" "$2" 1 "$upstream" "${FLOOR[0]}" "${FLOOR[1]}" "${tls[@]}"
    floor_pid=$last_started
    wait_for floor "$floor_pid" "${FLOOR[1]}"
    if [[ $4 = - ]]; then
        start seat "$PROXY_CORE" "$3" 1 "$upstream" "${SEAT[0]}" "${SEAT[1]}" "${tls[@]}"
    else
        config=$(configuration_for_upstream "$4")
        start seat "$PROXY_CORE" "$3" run -c "$config"
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

# Clients of examples/load that run beside what is tested, by name and process.
client_names=()
client_pids=()

# client NAME LOAD ARGUMENTS… ; begins one. It runs until `finish_clients`.
client() {
    local name=$1
    shift
    taskset -c "$LOAD_CORE" "$@" --seconds 0 >"$work/$name.line" 2>"$work/$name.log" </dev/null &
    client_names+=("$name")
    client_pids+=("$!")
    started+=("$!")
}

# field FILE NAME ; a value of the line that a client wrote.
field() {
    tr ' ' '\n' <"$1" | sed -n "s/^$2=//p"
}

# Ends all clients and prints what came of each; sets `failures` to how often one was failed, left without a word
# or had to repeat on a connection that ended so.
finish_clients() {
    local at name file
    local columns=(answered failed refused lost cut late wrong silent repeated told opened p50_us p99_us max_us)
    failures=0
    for at in "${!client_pids[@]}"; do kill -TERM "${client_pids[at]}"; done
    printf '%-24s' client
    printf '%9s' "${columns[@]}"
    echo
    for at in "${!client_pids[@]}"; do
        name=${client_names[at]} file=$work/${client_names[at]}.line
        wait "${client_pids[at]}" || fail "$name: $(tail -5 "$work/$name.log")"
        printf '%-24s' "$name"
        for column in "${columns[@]}"; do printf '%9s' "$(field "$file" "$column")"; done
        echo
        sed 's/^/    /' "$work/$name.log"
        [[ $(field "$file" answered) -gt 0 ]] || fail "$name got no answer at all"
        failures=$((failures + $(field "$file" failed) + $(field "$file" silent)))
    done
    client_names=() client_pids=()
}

# authority ; a certificate authority at $work/ca.pem. issue FILE NAME ; a certificate of it.
authority() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj /CN=loadtest \
        -out "$work/ca.pem" -keyout "$work/ca.key" 2>/dev/null
}

issue() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$2" -out "$1.csr" \
        -keyout "$1.key" 2>/dev/null
    openssl x509 -req -in "$1.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 90 -out "$1.pem" \
        -extfile <(printf 'basicConstraints=CA:FALSE\nsubjectAltName=DNS:%s\n' "$2") 2>/dev/null
}
