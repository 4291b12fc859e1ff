"""Clients that hold connections without doing what they came for.

    slow.py KIND HOST:PORT COUNT ADDRESSES

COUNT connections, from ADDRESSES addresses of the loopback network (127.0.1.1 and following), each of which does what
KIND says until the other side closes it, and is then replaced. Says `open` when all of them are open for the first
time. After a line on its input it replaces none; when the last one is gone, or a minute later, it writes one line:
how many were closed, after how many seconds (first, median, last), how many were refused at once, how many are left.
"""

import errno
import heapq
import select
import socket
import statistics
import sys
import time

BIND_ADDRESS_NO_PORT = 24
# A connection that ends so soon after it was opened was refused.
AT_ONCE = 0.5
# A crowd comes within this many seconds, and so it does again after each limit: not all in one moment.
SPREAD = 5.0
# How often some of it come.
STEP = 0.05
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
HEAD = b" / HTTP/1.1\r\nhost: localhost\r\n"


class Kind:
    """First bytes, then others every so many seconds; whether what comes is read."""

    def __init__(self, first, drip=b"", every=0.0, reads=True):
        self.first, self.drip, self.every, self.reads = first, drip, every, reads


KINDS = {
    # A byte of a head now and then.
    "headers": Kind(b"GET" + HEAD + b"x: ", b"a", 3),
    # The same on HTTP/2: a HEADERS frame of 16 KiB that never ends.
    "headers2": Kind(PREFACE + bytes([0, 0x40, 0, 1, 4, 0, 0, 0, 1]), b"\x00", 3),
    "bodies": Kind(b"POST" + HEAD + b"content-length: 100000\r\n\r\n", b"a", 1),
    "readers": Kind(b"GET /16777216" + HEAD[2:] + b"\r\n", reads=False),
    "idle": Kind(b"GET" + HEAD + b"\r\n"),
    # Half of a ClientHello's head.
    "handshakes": Kind(b"\x16\x03\x01"),
    # More than one client may have, again and again.
    "cap": Kind(b""),
}


class Crowd:
    def __init__(self, kind, address, count, addresses):
        self.kind, self.address, self.count, self.addresses = KINDS[kind], address, count, addresses
        self.poller = select.epoll()
        self.open = {}
        self.opened = {}
        self.due = []
        self.lives = []
        self.refused = 0
        self.made = 0
        self.not_before = 0.0

    def add(self):
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_IP, BIND_ADDRESS_NO_PORT, 1)
        if not self.kind.reads:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.bind((f"127.0.1.{1 + self.made % self.addresses}", 0))
        self.made += 1
        connection.connect_ex(self.address)
        self.open[connection.fileno()] = connection
        self.poller.register(connection, select.EPOLLOUT)

    def begin(self, number):
        self.opened[number] = time.monotonic()
        self.poller.modify(number, (select.EPOLLIN | select.EPOLLRDHUP) if self.kind.reads else 0)
        if self.kind.first:
            self.send(number, self.kind.first)
        if self.kind.drip:
            heapq.heappush(self.due, (time.monotonic() + self.kind.every, number, self.opened[number]))

    def send(self, number, data):
        try:
            self.open[number].send(data)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINTR):
                self.close(number)

    def close(self, number):
        life = time.monotonic() - self.opened.pop(number, time.monotonic())
        if life < AT_ONCE:
            self.refused += 1
        else:
            self.lives.append(life)
        self.open.pop(number).close()

    def happened(self, number, events):
        if number not in self.open:
            return
        if events & (select.EPOLLERR | select.EPOLLHUP):
            self.close(number)
        elif number not in self.opened:
            self.begin(number)
        elif events & (select.EPOLLIN | select.EPOLLRDHUP):
            try:
                while data := self.open[number].recv(65536):
                    if len(data) < 65536:
                        return
                self.close(number)
            except BlockingIOError:
                pass
            except OSError:
                self.close(number)

    def turn(self, replaces):
        now = time.monotonic()
        if replaces and now >= self.not_before:
            for _ in range(min(max(1, round(self.count * STEP / SPREAD)), self.count - len(self.open))):
                self.add()
            self.not_before = now + STEP
        while self.due and self.due[0][0] <= now:
            _, number, opened = heapq.heappop(self.due)
            if self.opened.get(number) == opened:
                self.send(number, self.kind.drip)
                heapq.heappush(self.due, (now + self.kind.every, number, opened))
        for number, events in self.poller.poll(0.02, 1024):
            if number == 0:
                return False
            self.happened(number, events)
        return True


def main():
    kind, address, count, addresses = sys.argv[1:]
    host, port = address.rsplit(":", 1)
    crowd = Crowd(kind, (host, int(port)), int(count), int(addresses))
    crowd.poller.register(0, select.EPOLLIN)
    said = False
    while crowd.turn(True):
        if not said and (len(crowd.opened) >= crowd.count or crowd.refused >= crowd.count):
            said = True
            print("open", flush=True)
    crowd.poller.unregister(0)
    deadline = time.monotonic() + 60
    while crowd.open and time.monotonic() < deadline and kind != "cap":
        crowd.turn(False)
    lives = sorted(crowd.lives) or [0.0]
    print(
        f"closed={len(crowd.lives)} first={lives[0]:.1f} median={statistics.median(lives):.1f} last={lives[-1]:.1f}"
        f" refused={crowd.refused} left={len(crowd.open)}"
    )


main()
