#!/usr/bin/env bash
# A million client addresses at a gateway with a rate limit and a quota by address: is its memory flat once as many
# keys are known as may be? Writes the curve to loadtest/soak_limits.svg.
#
#   loadtest/soak_limits.sh TOLLGATE [SECONDS]
#
# SECONDS is 600 unless given; the first pass over all addresses takes about a minute. Wanted: wrk, python3.
set -euo pipefail
cd "$(dirname "$0")/.."
[[ $# -ge 1 ]] || { echo "usage: soak_limits.sh TOLLGATE [SECONDS]" >&2; exit 1; }
exec python3 loadtest/soak_limits.py "$1" "${2:-600}" loadtest/soak_limits.svg
