#!/usr/bin/env bash
# Other people's servers behind: nginx and HAProxy over HTTP/1.1, HTTP/2 and TLS with client certificates.
#
#   loadtest/upstreams.sh TOLLGATE
#
# SECONDS_EACH (10) by environment. Each way gets a request, 8 MiB in both directions compared byte by byte,
# and a load from wrk and h2load. A server that asks for a certificate refuses the gateway without one, and
# the gateway refuses a server whose certificate is for another name. Any error fails the script.
cd "$(dirname "$0")/.."
# shellcheck source=loadtest/lib.sh
source loadtest/lib.sh

[[ $# -eq 1 ]] || fail "usage: upstreams.sh TOLLGATE"
seconds=${SECONDS_EACH:-10}
readonly GATEWAY=127.0.0.1:19011 GATEWAY_ADMIN=127.0.0.1:19019 FILES=127.0.0.1:19029
# cleartext HTTP/1.1, cleartext HTTP/2, TLS (both by ALPN), TLS that speaks HTTP/1.1 alone
readonly NGINX=(127.0.0.1:19021 127.0.0.1:19022 127.0.0.1:19023 127.0.0.1:19024)
readonly HAPROXY=(127.0.0.1:19031 127.0.0.1:19032 127.0.0.1:19033 127.0.0.1:19034)

# issue NAME USAGE SUBJECT_ALT_NAME ; a certificate of the script's own authority.
issue() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$1" \
        -out "$work/$1.csr" -keyout "$work/$1.key" 2>/dev/null
    printf 'basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=%s\nsubjectAltName=DNS:%s\n' \
        "$2" "$3" >"$work/$1.ext"
    openssl x509 -req -in "$work/$1.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial -days 2 \
        -extfile "$work/$1.ext" -out "$work/$1.pem" 2>/dev/null
    cat "$work/$1.pem" "$work/$1.key" >"$work/$1.both"
}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=authority \
    -out "$work/ca.pem" -keyout "$work/ca.key" 2>/dev/null
issue server serverAuth orders.internal
issue gateway clientAuth gateway.internal

mkdir -p "$work/nginx" "$work/www/up"
head -c 8M /dev/urandom >"$work/www/down"
printf 'ok' >"$work/www/small"
# nginx's workers give up root, and have to read and write below.
chmod 755 "$work" "$work/www" && chmod 777 "$work/www/up" && chmod 644 "$work"/www/{down,small}
nginx_tls="ssl_certificate $work/server.pem; ssl_certificate_key $work/server.key; ssl_verify_client on; ssl_client_certificate $work/ca.pem;"
nginx_site="root $work/www; location /up/ { dav_methods PUT; }"
cat >"$work/nginx.conf" <<END
worker_processes 1; daemon off; pid $work/nginx/pid; error_log $work/nginx/error.log;
events { worker_connections 4096; }
http {
    access_log off; keepalive_requests 100000000; client_max_body_size 100m;
    client_body_temp_path $work/www/a; proxy_temp_path $work/nginx/b; fastcgi_temp_path $work/nginx/c;
    uwsgi_temp_path $work/nginx/d; scgi_temp_path $work/nginx/e;
    server { listen ${NGINX[0]}; listen $FILES; $nginx_site }
    server { listen ${NGINX[1]} http2; $nginx_site }
    server { listen ${NGINX[2]} ssl http2; $nginx_tls $nginx_site }
    server { listen ${NGINX[3]} ssl; $nginx_tls $nginx_site }
}
END
haproxy_tls="ssl crt $work/server.both ca-file $work/ca.pem verify required"
cat >"$work/haproxy.cfg" <<END
global
    maxconn 4096
defaults
    mode http
    timeout connect 5s
    timeout client 1m
    timeout server 1m
frontend all
    bind ${HAPROXY[0]}
    bind ${HAPROXY[1]} proto h2
    bind ${HAPROXY[2]} $haproxy_tls alpn h2,http/1.1
    bind ${HAPROXY[3]} $haproxy_tls
    default_backend files
backend files
    server nginx $FILES
END

# upstream NAME ADDRESS SETTINGS… ; an upstream and its route, /NAME/…
upstreams= routes=
upstream() {
    local name=$1 address=$2
    shift 2
    upstreams+="  $name: { endpoints: [\"$address\"], retry: { attempts: 1 }$(printf ', %s' "$@") }"$'\n'
    routes+="  $name: { match: { path: \"/$name/{*rest}\" }, policies: { rewrite: { path: \"/{rest}\" } }, to: $name }"$'\n'
}
good="tls: { server_name: orders.internal, ca: $work/ca.pem, client: { certificate: $work/gateway.pem, key: $work/gateway.key } }"
ways=()
for server in nginx haproxy; do
    declare -n addresses=${server^^}
    upstream "$server-plain" "${addresses[0]}" 'protocol: http1'
    upstream "$server-h2c" "${addresses[1]}" 'protocol: http2'
    upstream "$server-tls-http1" "${addresses[2]}" 'protocol: http1' "$good"
    upstream "$server-tls-http2" "${addresses[2]}" 'protocol: http2' "$good"
    upstream "$server-tls-auto" "${addresses[2]}" 'protocol: auto' "$good"
    upstream "$server-tls-auto-http1" "${addresses[3]}" 'protocol: auto' "$good"
    ways+=("$server"-{plain,h2c,tls-http1,tls-http2,tls-auto,tls-auto-http1})
    upstream "$server-no-certificate" "${addresses[2]}" "tls: { server_name: orders.internal, ca: $work/ca.pem }"
    upstream "$server-other-name" "${addresses[2]}" "${good/orders.internal/else.internal}"
    upstream "$server-other-authority" "${addresses[2]}" "tls: { server_name: orders.internal }"
done
cat >"$work/gateway.yaml" <<END
version: 1
process: { workers: 1 }
admin: { address: $GATEWAY_ADMIN }
telemetry: { access_log: { to: { file: $work/access.log } } }
listeners:
  web: { address: $GATEWAY, h2c: true, limits: { body: 20MiB, requests: 1000000000 } }
upstreams:
${upstreams}routes:
${routes}
END
start nginx "$LOAD_CORE" nginx -c "$work/nginx.conf" -p "$work/nginx"
wait_for nginx "$last_started" "$FILES"
start haproxy "$LOAD_CORE" haproxy -db -f "$work/haproxy.cfg"
wait_for haproxy "$last_started" "${HAPROXY[0]}"
start gateway "$PROXY_CORE" "$1" run -c "$work/gateway.yaml"
wait_for gateway "$last_started" "$GATEWAY"

# status URL_PATH CURL_ARGUMENTS…
status() {
    local path=$1
    shift
    curl -s -m 20 -o /dev/null -w '%{http_code}' "$@" "http://$GATEWAY$path" || true
}
expect() {
    [[ $3 = "$2" ]] || fail "$1: expected $2, got $3"
}

for way in "${ways[@]}"; do
    for client in --http1.1 --http2-prior-knowledge; do
        expect "$way, GET $client" 200 "$(status "/$way/small" "$client")"
        curl -s -m 30 "$client" "http://$GATEWAY/$way/down" | cmp - "$work/www/down" ||
            fail "$way, $client: 8 MiB arrived changed"
        rm -f "$work/www/up/$way"
        expect "$way, PUT $client" 201 "$(status "/$way/up/$way" "$client" -T "$work/www/down")"
        cmp "$work/www/up/$way" "$work/www/down" || fail "$way, $client: 8 MiB were stored changed"
    done
    report=$(taskset -c "$LOAD_CORE" wrk -t1 -c32 -d"${seconds}s" "http://$GATEWAY/$way/small")
    ! grep -qE 'Socket errors|Non-2xx' <<<"$report" || fail "$way: wrk saw errors: $report"
    wrk=$(awk '/requests in/ { print $1 }' <<<"$report")
    report=$(taskset -c "$LOAD_CORE" h2load -t1 -c8 -m8 -D "$seconds" "http://$GATEWAY/$way/small" 2>&1)
    h2load=$(awk '/^requests:/ { failed = $10 + $12 + $14 } /^status codes:/ { ok = $3; other = $5 + $7 + $9 }
        END { if (failed || other) exit 1; print ok }' <<<"$report") || fail "$way: h2load saw errors: $report"
    printf 'ok  %-24s 4 bodies of 8 MiB, %8s requests of wrk, %8s of h2load, 0 failed\n' "$way" "$wrk" "$h2load"
done
for server in nginx haproxy; do
    for case in no-certificate other-name other-authority; do
        # nginx finishes the handshake and answers 400 to who has no certificate; HAProxy breaks it off.
        expected=502
        [[ $server-$case != nginx-no-certificate ]] || expected=400
        expect "$server-$case" "$expected" "$(status "/$server-$case/small")"
        echo "ok  $server-$case: $expected"
    done
done
