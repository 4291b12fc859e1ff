"""What the load tests in Python share: origins, certificates, what the load generators say, and curves."""

import os
import re
import subprocess
import sys
import time

LOAD_CORE = "1"


class Authority:
    """Certificates for localhost, of one authority."""

    def __init__(self, folder):
        self.folder = folder
        self.openssl("req", "-x509", "-subj", "/CN=loadtest", "-days", "90", "-out", "ca.pem", "-keyout", "ca.key")

    def openssl(self, command, *arguments):
        new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"] if command == "req" else []
        subprocess.run(["openssl", command, *new, *arguments], cwd=self.folder, check=True, capture_output=True)

    def issue(self):
        """A new certificate and key, put in the place of those before."""
        self.openssl("req", "-subj", "/CN=localhost", "-out", "new.csr", "-keyout", "new.key")
        (self.folder / "ext").write_text("basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost\n")
        signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "90", "-extfile", "ext"]
        self.openssl("x509", "-req", "-in", "new.csr", *signed, "-out", "new.pem")
        os.rename(self.folder / "new.pem", self.folder / "localhost.pem")
        os.rename(self.folder / "new.key", self.folder / "localhost.key")


def nginx(folder, name, address, port):
    """The command of an nginx with two bytes for every path."""
    home = folder / name
    home.mkdir(exist_ok=True)
    paths = " ".join(f"{kind}_temp_path {home}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (home / "conf").write_text(
        f"worker_processes 1; daemon off; pid {home}/pid; error_log {home}/error.log;\n"
        f"events {{ worker_connections 4096; }}\nhttp {{ access_log off; keepalive_requests 100000000; {paths}\n"
        f'server {{ listen {address}:{port}; location / {{ return 200 "ok"; }} }} }}\n'
    )
    return ["nginx", "-c", str(home / "conf"), "-p", str(home)]


def until(what, true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise SystemExit(f"{sys.argv[0]}: {what}")
        time.sleep(0.05)


def wrk_says(text):
    asked = int(re.search(r"(\d+) requests in", text)[1])
    broken = sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", text)))
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return asked, broken + (int(refused[1]) if refused else 0)


def h2load_says(text):
    asked = int(re.search(r"requests: \d+ total, \d+ started, (\d+) done", text)[1])
    # Those with another status, and those without any, are among the failed.
    failed, errored, late = map(int, re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", text).groups())
    return asked, max(failed, errored) + late


def curves(samples, left, right):
    """An SVG of two values over time: `left` and `right` are (field, unit of the scale's label, what it is)."""
    width, height, margin, top, bottom = 760, 320, 60, 30, 40
    end = max(sample["at"] for sample in samples)

    def x(at):
        return margin + (width - 2 * margin) * at / end

    def y(share):
        return height - bottom - (height - top - bottom) * share

    def text(at, anchor, color, what):
        return f'<text x="{at[0]:.0f}" y="{at[1]:.0f}" text-anchor="{anchor}" fill="{color}">{what}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    parts += [f'<path stroke="#ddd" d="M{margin} {y(step / 4.8):.1f}H{width - margin}"/>' for step in range(5)]
    parts += [text((x(end * step / 4), height - bottom + 18), "middle", "#333", f"{end * step / 4:.0f} s") for step in range(5)]
    sides = [(left, "#1f6feb", margin - 6, "end", margin, "start"), (right, "#c4530a", width - margin + 6, "start", width - margin, "end")]
    for (field, unit, what), color, at, anchor, title_at, title_anchor in sides:
        most = max(max(sample[field] for sample in samples), 1) * 1.2
        points = " ".join(f"{x(sample['at']):.1f},{y(sample[field] / most):.1f}" for sample in samples)
        parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{points}"/>')
        parts += [text((at, y(step / 4.8) + 4), anchor, color, f"{most * step / 4.8:.0f}{unit}") for step in range(5)]
        parts.append(text((title_at, 18), title_anchor, color, what))
    return "\n".join([*parts, "</svg>\n"])
