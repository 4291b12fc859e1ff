#!/usr/bin/env bash
# Tokens of an issuer that others wrote: npm's oidc-provider, started, restarted with other keys and stopped
# under constant load. No valid token may be refused.
#
#   tests/oidc-provider/run.sh [TOLLGATE]        default: target/debug/tollgate
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
tollgate=$(realpath "${1:-target/debug/tollgate}")

if ! command -v npm >/dev/null; then
    echo "skipped: npm is not there (Debian: apt-get install npm)"
    exit 0
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp "$here/check.mjs" "$folder"
cd "$folder"
npm install --silent --no-audit --no-fund --no-save oidc-provider@9 >/dev/null
node check.mjs "$tollgate"
