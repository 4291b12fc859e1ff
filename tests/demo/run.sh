#!/usr/bin/env bash
# What the README says under "Who calls", as a stranger would type it: the demo, a token from its issuer, and
# what each caller gets. In a network of its own, since the demo's ports are fixed.
#
#   tests/demo/run.sh [TOLLGATE]        default: target/debug/tollgate
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
tollgate=$(realpath "${1:-$root/target/debug/tollgate}")
if [ "${IN_A_NETWORK_OF_ITS_OWN:-}" != yes ]; then
    IN_A_NETWORK_OF_ITS_OWN=yes exec unshare --user --map-root-user --net "$0" "$tollgate"
fi
ip link set lo up

folder=$(mktemp -d)
cd "$root"
"$tollgate" demo -c conf/gateway.yaml >"$folder/out" 2>"$folder/errors" &
demo=$!
trap 'kill $demo; wait $demo || true; rm -rf "$folder"' EXIT
for _ in $(seq 300); do
    grep -q 'Tollgate serves' "$folder/out" && break
    kill -0 $demo || { cat "$folder/errors"; exit 1; }
    sleep 0.1
done

# The block of commands that begins with this caller whom nobody knows.
awk '/^```sh$/ { block = ""; inside = 1; next } /^```$/ { if (inside && block ~ /whoami *# 401/) print block; inside = 0 } inside { block = block $0 "\n" }' README.md |
    sed "s#target/release/tollgate#$tollgate#; s#^curl -i#curl -s -o $folder/body -w '%{http_code}\\\\n'#" >"$folder/commands"
[ "$(grep -c '^curl' "$folder/commands")" = 3 ] || { echo "the README has other commands:"; cat "$folder/commands"; exit 1; }

said=$(bash -euo pipefail "$folder/commands" | xargs)
wanted=$(grep -o '^curl.*# [0-9]*' "$folder/commands" | grep -o '[0-9]*$' | xargs)
[ "$said" = "$wanted" ] || { echo "the README says $wanted, the gateway $said"; cat "$folder/errors"; exit 1; }
echo "the README's callers get what it says: $said"
