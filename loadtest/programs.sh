#!/usr/bin/env bash
# Real programs as clients and upstreams: nginx behind, curl, wrk, h2load and promtool before.
#
#   loadtest/programs.sh TOLLGATE
#
# SECONDS_EACH (60) by environment. Any error fails the script.
cd "$(dirname "$0")/.."
# shellcheck source=loadtest/lib.sh
source loadtest/lib.sh

[[ $# -eq 1 ]] || fail "usage: programs.sh TOLLGATE"
seconds=${SECONDS_EACH:-60}

certificate
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=clients-ca \
    -out "$work/ca.pem" -keyout "$work/ca.key" 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=someone \
    -out "$work/client.csr" -keyout "$work/client.key" 2>/dev/null
printf 'basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=clientAuth\n' >"$work/client.ext"
openssl x509 -req -in "$work/client.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 2 \
    -extfile "$work/client.ext" -out "$work/client.pem" 2>/dev/null

mkdir "$work/nginx"
cat >"$work/nginx.conf" <<END
worker_processes 1; daemon off; pid $work/nginx/pid; error_log $work/nginx/error.log;
events { worker_connections 4096; }
http {
    access_log off; keepalive_requests 1000000; client_max_body_size 100m;
    client_body_temp_path $work/nginx/a; proxy_temp_path $work/nginx/b; fastcgi_temp_path $work/nginx/c;
    uwsgi_temp_path $work/nginx/d; scgi_temp_path $work/nginx/e;
    server { listen $ORIGIN; location / { return 200 "nginx says hello to \$request_uri\n"; } }
}
END
cat >"$work/gateway.yaml" <<END
version: 1
admin: { address: 127.0.0.1:19099 }
telemetry: { access_log: { to: { file: $work/access.log } } }
listeners:
  web: { address: 127.0.0.1:19011, h2c: true }
  secure: { address: 127.0.0.1:19012, tls: { certificates: [{ certificate: $LOADTEST_CERTIFICATE, key: $LOADTEST_KEY }] } }
  clients:
    address: 127.0.0.1:19013
    tls:
      certificates: [{ certificate: $LOADTEST_CERTIFICATE, key: $LOADTEST_KEY }]
      client: { ca: $work/ca.pem, require: true }
upstreams: { nginx: { endpoints: ["$ORIGIN"] } }
routes: { all: { to: nginx } }
END
start nginx "$LOAD_CORE" nginx -c "$work/nginx.conf" -p "$work/nginx"
wait_for nginx "$last_started" "$ORIGIN"
start gateway "$PROXY_CORE" "$1" run -c "$work/gateway.yaml"
gateway=$last_started
wait_for gateway "$gateway" 127.0.0.1:19013

# ask WHAT EXPECTED CURL_ARGUMENTS…
ask() {
    local what=$1 expected=$2 got
    shift 2
    got=$(curl -s -m 10 -o /dev/null -w '%{http_code} HTTP/%{http_version}' "$@" || true)
    [[ $got = "$expected" ]] || fail "$what: expected $expected, got $got"
    echo "ok  $what: $got"
}
tls=(--cacert "$LOADTEST_CERTIFICATE" --resolve localhost:19012:127.0.0.1 --resolve localhost:19013:127.0.0.1)
ask 'curl, HTTP/1.1' '200 HTTP/1.1' --http1.1 http://127.0.0.1:19011/a
ask 'curl, cleartext HTTP/2' '200 HTTP/2' --http2-prior-knowledge http://127.0.0.1:19011/a
ask 'curl, TLS and HTTP/1.1' '200 HTTP/1.1' --http1.1 "${tls[@]}" https://localhost:19012/a
ask 'curl, TLS and HTTP/2' '200 HTTP/2' --http2 "${tls[@]}" https://localhost:19012/a
ask 'curl, TLS 1.2' '200 HTTP/2' --tls-max 1.2 "${tls[@]}" https://localhost:19012/a
ask 'curl, client certificate' '200 HTTP/2' --cert "$work/client.pem" --key "$work/client.key" "${tls[@]}" https://localhost:19013/a
ask 'curl, no client certificate' '000 HTTP/0' "${tls[@]}" https://localhost:19013/a
head -c 5M /dev/zero >"$work/5M"
head -c 20M /dev/zero >"$work/20M"
ask 'curl, upload' '200 HTTP/1.1' -T "$work/5M" http://127.0.0.1:19011/a
ask 'curl, chunked upload' '200 HTTP/1.1' -T - http://127.0.0.1:19011/a <"$work/5M"
ask 'curl, HTTP/2 upload' '200 HTTP/2' --http2-prior-knowledge -T "$work/5M" http://127.0.0.1:19011/a
ask 'curl, upload over the limit' '413 HTTP/1.1' -T "$work/20M" http://127.0.0.1:19011/a
curl -s http://127.0.0.1:19099/metrics | promtool check metrics
echo 'ok  promtool check metrics'

report=$(taskset -c "$LOAD_CORE" wrk -t1 -c64 -d"${seconds}s" http://127.0.0.1:19011/a)
grep -E 'requests in|Requests/sec' <<<"$report"
! grep -qE 'Socket errors|Non-2xx' <<<"$report" || fail "wrk saw errors: $report"
echo 'ok  wrk, HTTP/1.1'
for target in http://127.0.0.1:19011/a https://localhost:19012/a; do
    extra=()
    [[ $target = http:* ]] || extra=(--connect-to=127.0.0.1:19012)
    report=$(taskset -c "$LOAD_CORE" h2load -t1 -c16 -m16 -D "$seconds" "${extra[@]}" "$target" 2>&1) ||
        fail "h2load ended with an error: $report"
    grep -E '^(finished|requests|status codes)' <<<"$report"
    awk '/^requests:/ { failed = $10 + $12 + $14 } /^status codes:/ { ok = $3; other = $5 + $7 + $9 } END { exit !(failed == 0 && other == 0 && ok > 0) }' <<<"$report" ||
        fail "h2load saw errors: $report"
    echo "ok  h2load, $target"
done
echo "resident after all of it: $(($(resident_kib "$gateway") / 1024)) MiB"
