#!/usr/bin/env python3
"""Writes a configuration folder with many routes: routes.py FOLDER FILES ROUTES_EACH ORIGIN"""
import pathlib
import sys

folder, files, each, origin = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
folder.mkdir(parents=True, exist_ok=True)
(folder / "main.yaml").write_text(
    "version: 1\n"
    "admin: { address: 127.0.0.1:19099, token: loadtest }\n"
    "telemetry: { access_log: off }\n"
    "listeners: { web: { address: 127.0.0.1:19011 } }\n"
    f"upstreams: {{ origin: {{ endpoints: ['{origin}'] }} }}\n"
)
for number in range(files):
    lines = ["routes:\n"]
    for route in range(each):
        lines.append(
            f"  r{number}-{route}:\n"
            f"    match: {{ hosts: [h{number % 50}.example.com], path: '/service-{number}/v1/item-{route}/{{id}}' }}\n"
            f"    policies: {{ headers: {{ request: {{ set: {{ x-route: r{number}-{route} }} }} }} }}\n"
            "    to: origin\n"
        )
    (folder / f"routes-{number:03}.yaml").write_text("".join(lines))
