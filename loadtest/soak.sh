#!/usr/bin/env bash
# Mixed traffic of a million clients through all kinds of policies, with reloads all the time: are memory and file
# descriptors flat, and is nothing in flight at the end? Writes the curves to loadtest/soak.svg.
#
#   loadtest/soak.sh TOLLGATE LOAD [SECONDS]
#
# LOAD is examples/load. SECONDS is 1800 unless given. Wanted: nginx, redis-server, wrk, h2load, curl, openssl, python3.
set -euo pipefail
cd "$(dirname "$0")/.."
[[ $# -ge 2 ]] || { echo "usage: soak.sh TOLLGATE LOAD [SECONDS]" >&2; exit 1; }
exec python3 loadtest/soak.py "$1" "$2" "${3:-1800}" loadtest/soak.svg
