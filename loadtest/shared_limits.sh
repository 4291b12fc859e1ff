#!/usr/bin/env bash
# Two gateways that share limits in a Redis: that the limit holds under load, and what becomes of requests while the
# Redis is paused, killed and restarted.
#
#   loadtest/shared_limits.sh TOLLGATE
#
# SECONDS_EACH (5), how long each state lasts, by environment. Wanted: redis-server, wrk, python3.
set -euo pipefail
cd "$(dirname "$0")/.."
[[ $# -eq 1 ]] || { echo "usage: shared_limits.sh TOLLGATE" >&2; exit 1; }
exec python3 loadtest/shared_limits.py "$1" "${SECONDS_EACH:-5}"
