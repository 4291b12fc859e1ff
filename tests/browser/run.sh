#!/usr/bin/env bash
# Drives the login in a real browser against an issuer written by others: headless Chromium, npm's
# `puppeteer-core` and `oidc-provider`. Installs what is missing (Chromium and Node.js by apt, the npm
# packages into a temporary folder, which goes afterwards) and takes about a minute.
#
#   tests/browser/run.sh PATH-OF-TOLLGATE
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
tollgate=$(realpath "${1:?usage: run.sh PATH-OF-TOLLGATE}")

"$here/../../packaging/install-deps.sh" browser

node --input-type=module -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' || {
    printf 'tests/browser: Node.js 20 or newer is needed\n' >&2
    exit 1
}

# Exact versions: what is tested is the gateway, not what npm has published today.
packages=(puppeteer-core@24.43.1 oidc-provider@9.13.3)

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp "$here"/*.mjs "$folder/"
cd "$folder"
printf '{ "private": true, "type": "module" }\n' >package.json
npm install --silent --no-fund --no-audit --no-save "${packages[@]}" >&2

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
    -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout tls.key -out tls.crt 2>/dev/null

chromium=$(command -v chromium)
TOLLGATE=$tollgate CHROMIUM=$chromium FOLDER=$folder node login.mjs
