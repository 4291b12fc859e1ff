#!/usr/bin/env bash
# Protocols by programs that others wrote, as clients and as servers: gRPC by grpcio, gRPC-Web by grpc-web,
# WebSocket by websockets (Python) and ws (Node), and the cases of the Autobahn suite.
#
#   loadtest/protocols.sh TOLLGATE
#
# Needs python3 with venv, node with npm, and their registries; what it installs goes into a temporary folder, or
# into PROGRAMS by environment, which is kept. Each check is made directly first, then through the gateway.
cd "$(dirname "$0")/.."
# shellcheck source=loadtest/lib.sh
source loadtest/lib.sh

[[ $# -eq 1 ]] || fail "usage: protocols.sh TOLLGATE"
tollgate=$(realpath "$1")
here=$PWD/loadtest/protocols
programs=${PROGRAMS:-$work/programs}
mkdir -p "$programs"
python=$programs/venv/bin/python
if [[ ! -x $python ]]; then
    python3 -m venv "$programs/venv"
    "$python" -m pip -q install grpcio grpcio-tools websockets
fi
[[ -d $programs/node_modules/grpc-web ]] ||
    (cd "$programs" && npm install --silent --no-fund --no-audit ws grpc-web google-protobuf xhr2)
"$python" -m grpc_tools.protoc -I "$here" --python_out="$work" --grpc_python_out="$work" greeter.proto
export PYTHONPATH=$work NODE_PATH=$programs/node_modules

cat >"$work/gateway.yaml" <<END
version: 1
admin: off
telemetry: { access_log: off }
listeners:
  web: { address: 127.0.0.1:19011, h2c: true, limits: { body: 64MiB, upgraded: { idle: 1m } } }
  python: { address: 127.0.0.1:19012 }
  node: { address: 127.0.0.1:19013 }
upstreams:
  calls: { endpoints: [127.0.0.1:19001], protocol: http2 }
  python: { endpoints: [127.0.0.1:19002] }
  node: { endpoints: [127.0.0.1:19003] }
routes:
  calls: { on: [web], policies: { grpc_web: {} }, to: calls }
  python: { on: [python], to: python }
  node: { on: [node], to: node }
END
start grpc "$LOAD_CORE" "$python" "$here/grpc_server.py" 19001
grpc=$last_started
start ws_python "$LOAD_CORE" "$python" "$here/ws_server.py" 19002
ws_python=$last_started
start ws_node "$LOAD_CORE" node "$here/ws_server.js" 19003
ws_node=$last_started
start gateway "$PROXY_CORE" "$tollgate" run -c "$work/gateway.yaml"
gateway=$last_started
wait_for grpc "$grpc" 127.0.0.1:19001
wait_for ws_python "$ws_python" 127.0.0.1:19002
wait_for ws_node "$ws_node" 127.0.0.1:19003
wait_for gateway "$gateway" 127.0.0.1:19013

failed=0
# check WHAT COMMAND…
check() {
    local what=$1
    shift
    echo "$what"
    "$@" 2>&1 | sed 's/^/    /' || { echo "    FAILED"; failed=1; }
}

check "gRPC, directly" "$python" "$here/grpc_client.py" 127.0.0.1:19001
check "gRPC, through the gateway" "$python" "$here/grpc_client.py" 127.0.0.1:19011
check "gRPC-Web, through the gateway" node "$here/grpc_web.js" http://127.0.0.1:19011
for server in python:19002:19012 node:19003:19013; do
    IFS=: read -r name direct through <<<"$server"
    for port in "$direct" "$through"; do
        check "WebSocket to the server of $name at $port" "$python" "$here/ws_client.py" "ws://127.0.0.1:$port/"
        check "WebSocket to the server of $name at $port" node "$here/ws_client.js" "ws://127.0.0.1:$port/"
    done
    check "Autobahn's cases, server of $name" "$python" "$here/frames.py" "$direct" "$through"
done
kill -0 "$gateway" 2>/dev/null || fail "the gateway is gone: $(tail -5 "$work/gateway.log")"
[[ $failed = 0 ]] || fail "some checks failed"
echo "all passed"
