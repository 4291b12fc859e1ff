"""One TLS connection after the other, one request on each: handshakes.py PORT SECONDS CA full|resume

Prints what came of it as JSON. A connection that should have been resumed and was not is an error, and so is one that
was and should not have been, or an answer other than 200.
"""

import json
import socket
import ssl
import sys
import time

from loads import percentiles

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def once(port, context, session):
    """The session for the next one, and whether all was as it should be."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(plain, server_hostname="localhost", session=session) as connection:
            connection.sendall(REQUEST)
            answer = b""
            try:
                while piece := connection.recv(65536):
                    answer += piece
            except ssl.SSLEOFError:
                pass  # no close_notify; the length says whether the answer is whole
            good = answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"\r\n\r\nxx")
            return connection.session, good and connection.session_reused == (session is not None)


def main():
    port, seconds, resume = int(sys.argv[1]), float(sys.argv[2]), sys.argv[4] == "resume"
    context = ssl.create_default_context(cafile=sys.argv[3])
    session = once(port, context, None)[0] if resume else None
    times, errors, began = [], 0, time.monotonic()
    while time.monotonic() - began < seconds:
        start = time.monotonic()
        got, good = once(port, context, session)
        times.append(int((time.monotonic() - start) * 1e6))
        errors += not good
        session = got if resume else None
    took = time.monotonic() - began
    print(json.dumps({"requests": len(times), "seconds": took, "errors": errors, **percentiles(sorted(times))}))


main()
