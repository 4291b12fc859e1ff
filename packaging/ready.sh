#!/usr/bin/env bash
# Exit code 0 if the gateway in this container is ready: asks the admin listener for /readyz over
# bash's own /dev/tcp, so that the image needs no HTTP client.
set -euo pipefail

host=${TOLLGATE_ADMIN_HOST:-127.0.0.1}
port=${TOLLGATE_ADMIN_PORT:-9901}
exec 3<>"/dev/tcp/$host/$port"
printf 'GET /readyz HTTP/1.1\r\nhost: %s\r\nconnection: close\r\n\r\n' "$host" >&3
read -r -t 2 _ status _ <&3
[[ $status = 200 ]]
