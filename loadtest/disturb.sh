#!/usr/bin/env bash
# What becomes of the requests of wrk, h2load and curl while something around the gateway breaks or changes: origins
# restart, a name's address changes, certificates are renewed, Redis stops, the disk is full.
#
#   loadtest/disturb.sh TOLLGATE [SECONDS [ONLY]]
#
# SECONDS (8) is how long each of them lasts, ONLY a part of the name of those that are wanted. Wanted: nginx, redis-server, wrk, h2load, curl, openssl, python3, and
# root for the full disk (a small tmpfs). Fails if a request failed where the gateway can prevent it.
set -euo pipefail
cd "$(dirname "$0")/.."
[[ $# -ge 1 ]] || { echo "usage: disturb.sh TOLLGATE [SECONDS]" >&2; exit 1; }
exec python3 loadtest/disturb.py "$1" "${2:-8}" ${3:+"$3"}
