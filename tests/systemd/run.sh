#!/usr/bin/env bash
# Runs packaging/tollgate.service under a real systemd: start, reload, refused reload, upgrade, watchdog, stop.
# What only the system's own manager can do (users, sandbox) is left out here; `systemd-analyze verify` reads it.
#
#   tests/systemd/run.sh path/to/tollgate         as root: it makes a mount namespace of its own
set -euo pipefail

binary=$(realpath "$1")
if [[ ${INSIDE_NAMESPACE:-} != yes ]]; then
    exec unshare --mount env INSIDE_NAMESPACE=yes "$0" "$binary"
fi
cd "$(dirname "$0")/../.."
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/user/0
chmod 700 /run/user/0
export XDG_RUNTIME_DIR=/run/user/0 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/0/bus
folder=$(mktemp -d)

ports=($(python3 -c 'import socket
s = [socket.socket() for _ in range(2)]
for one in s: one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in s))'))
web="http://127.0.0.1:${ports[0]}/"
cat > "$folder/gateway.yaml" <<YAML
version: 1
process: { control: "$folder/control.sock", drain: 5s }
admin: { address: "127.0.0.1:${ports[1]}" }
telemetry: { access_log: off }
listeners: { web: { address: "127.0.0.1:${ports[0]}" } }
routes: { all: { match: { path: "/*" }, to: { respond: { status: 200, body: "hello" } } } }
YAML

# What a user's manager does not know.
sandbox='DynamicUser|AmbientCapabilities|CapabilityBoundingSet|Protect.*|Private.*|Restrict.*|NoNewPrivileges'
sandbox+='|LockPersonality|MemoryDenyWriteExecute|SystemCallArchitectures|StateDirectory|LogsDirectory|WorkingDirectory'
sandbox+='|LimitNOFILE|RuntimeDirectory'
mkdir -p "$XDG_RUNTIME_DIR/systemd/user"
sed -E -e "/^($sandbox)=/d" -e "s#/usr/local/bin/tollgate#$binary#; s#-c /etc/tollgate#-c $folder/gateway.yaml#" \
    -e 's/^WatchdogSec=.*/WatchdogSec=2/' packaging/tollgate.service > "$XDG_RUNTIME_DIR/systemd/user/tollgate.service"

manager=/usr/lib/systemd/systemd
"$manager" --user --log-target=console > "$folder/manager.log" 2>&1 &
pid=$!
cleanup() {
    status=$?
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    [[ $status = 0 ]] || { echo "systemd said:"; tail -n 40 "$folder/manager.log"; }
    rm -rf "$folder"
}
trap cleanup EXIT

property() { systemctl --user show tollgate -P "$1"; }
until_is() { # property, value
    for _ in $(seq 600); do
        [[ $(property "$1") = "$2" ]] && return
        sleep 0.05
    done
    echo "$1 is $(property "$1"), not $2"; return 1
}
until_other() { # property, value
    for _ in $(seq 600); do
        local now; now=$(property "$1")
        [[ $now != "$2" && $now != 0 ]] && return
        sleep 0.05
    done
    echo "$1 stays $2"; return 1
}
until_true() { # what, command …
    local what=$1; shift
    for _ in $(seq 600); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.05
    done
    echo "never: $what"; return 1
}
until_true "the manager answers" systemctl --user show -P Version
serves() { [[ $(curl -qsS --noproxy '*' "$web") = hello ]]; }

systemctl --user start tollgate
serves # `start` came back when it was ready
[[ $(property ActiveState) = active && $(property StatusText) = serving ]]
first=$(property MainPID)
echo "started: pid $first"

systemctl --user reload tollgate
until_is StatusText serving
echo "routes: [" >> "$folder/gateway.yaml"
! systemctl --user reload tollgate 2>/dev/null
until_is ActiveState active
sed -i '$d' "$folder/gateway.yaml"
serves
echo "reloaded; a configuration that does not hold was refused"

before=$first
for round in 1 2 3; do
    "$binary" upgrade -c "$folder/gateway.yaml" >/dev/null
    until_other MainPID "$before"
    until_true "process $before has ended" test ! -e "/proc/$before"
    [[ $(property ActiveState) = active && $(property NRestarts) = 0 ]]
    serves
    before=$(property MainPID)
done
echo "upgraded three times: pid $before"

# Longer than the watchdog is patient: it was told.
until_other WatchdogTimestampMonotonic "$(property WatchdogTimestampMonotonic)"
kill -STOP "$before"
until_is NRestarts 1
until_is ActiveState active
until_true "the next one serves" serves
echo "a process that hung was replaced: pid $(property MainPID)"

systemctl --user stop tollgate
[[ $(property Result) = success && $(property ActiveState) = inactive ]]
echo "stopped"
