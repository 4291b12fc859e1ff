"""Opens keep-alive connections, sends one request on each, and holds them.

    idle.py HOST:PORT plain|tls COUNT

Opens one, says `ready`, waits for a line; opens COUNT more, says `open`; holds all of them until it
is killed or its input ends.
"""

import socket
import ssl
import sys


def connect(address, context):
    connection = socket.create_connection(address, timeout=20)
    if context:
        connection = context.wrap_socket(connection, server_hostname="localhost")
    connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = connection.recv(4096)
        if not piece:
            raise SystemExit("idle.py: closed before an answer")
        answer += piece
    if not answer.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"idle.py: {answer[:80]!r}")
    return connection


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    context = None
    if sys.argv[2] == "tls":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    held = [connect((host, int(port)), context)]
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(int(sys.argv[3])):
        held.append(connect((host, int(port)), context))
    print("open", flush=True)
    sys.stdin.read()


main()
