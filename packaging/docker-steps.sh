#!/usr/bin/env bash
# Runs the `RUN make …` steps of the Dockerfile's build stage, each as it stands there, in a copy of
# the tracked files: proof that the image builds from what is committed, without a Docker engine.
set -euo pipefail

cd "$(dirname "$0")/.."
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT

git ls-files -z | xargs -0 cp --parents -t "$copy"
mapfile -t steps < <(sed -n 's/^RUN \(make .*\)/\1/p' Dockerfile)
[[ ${#steps[@]} -gt 0 ]] || { echo "docker-steps: the Dockerfile has no RUN make step" >&2; exit 1; }

# A docker build has no target folder to lean on either.
unset CARGO_TARGET_DIR MAKEFLAGS MAKELEVEL
cd "$copy"
for step in "${steps[@]}"; do
    echo "docker-steps: $step"
    bash -c "$step"
done
# What the Dockerfile copies out of the build stage has to be there.
target/release/tollgate --version
