"""Certificates, a signing key, and a token of it, by openssl."""

import base64
import json
import subprocess
import time


def openssl(*arguments, **more):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, **more).stdout


def certificates(work):
    """An authority and a certificate of it for localhost: (authority, certificate, key)."""
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    authority, key = work / "ca.pem", work / "key.pem"
    openssl("req", "-x509", *curve, "-days", "30", "-subj", "/CN=compare", "-out", authority, "-keyout", work / "ca.key")
    openssl("req", *curve, "-subj", "/CN=localhost", "-out", work / "request.pem", "-keyout", key)
    names = work / "names"
    names.write_text("basicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost\n")
    openssl("x509", "-req", "-in", work / "request.pem", "-CA", authority, "-CAkey", work / "ca.key", "-CAcreateserial",
            "-days", "30", "-extfile", names, "-out", work / "certificate.pem")
    return authority, work / "certificate.pem", key


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(work):
    """(JSON Web Key Set, public key in PEM, token): ES256, for alice, of https://issuer.test, valid for a day."""
    key, jwks, public = work / "signing.pem", work / "jwks.json", work / "public.pem"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    openssl("ec", "-in", key, "-pubout", "-out", public)
    # The point ends the structure: x and y of 32 bytes each.
    point = openssl("ec", "-in", key, "-pubout", "-outform", "DER")[-64:]
    jwks.write_text(json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "one",
                                          "x": base64url(point[:32]), "y": base64url(point[32:])}]}))
    now = int(time.time())
    claims = {"iss": "https://issuer.test", "aud": "api", "sub": "alice", "iat": now, "exp": now + 86400}
    head = {"alg": "ES256", "typ": "JWT", "kid": "one"}
    signed = ".".join(base64url(json.dumps(part).encode()) for part in (head, claims))
    der = openssl("dgst", "-sha256", "-sign", key, input=signed.encode())
    return jwks, public, f"{signed}.{base64url(raw_signature(der))}"


def raw_signature(der):
    """r and s of 32 bytes each, out of the SEQUENCE of two INTEGERs that openssl writes."""
    numbers, at = b"", 2
    for _ in range(2):
        length = der[at + 1]
        numbers += int.from_bytes(der[at + 2 : at + 2 + length], "big").to_bytes(32, "big")
        at += 2 + length
    return numbers
