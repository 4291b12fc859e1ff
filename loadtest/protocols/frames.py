"""The cases of the Autobahn test suite, groups 1 to 7, 9 and 10, rewritten: raw frames to an echo server, once
directly and once through the gateway. What the server says must be the same. Arguments: two ports.

(The suite itself needs Python 2. Its groups 12 and 13, compression, are in ws_client.js.)
"""
import asyncio
import base64
import hashlib
import os
import struct
import sys
import time

TEXT, BINARY, CLOSE, PING, PONG, MORE = 1, 2, 8, 9, 10, 0


def frame(opcode, payload=b"", fin=True, rsv=0):
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    size = len(payload)
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += b"\xfe" + struct.pack(">H", size)
    else:
        head += b"\xff" + struct.pack(">Q", size)
    mask = os.urandom(4)
    number = int.from_bytes(payload, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return head + mask + number.to_bytes(size, "big")


def fragments(opcode, payload, size):
    pieces = [payload[at:at + size] for at in range(0, len(payload), size)] or [b""]
    last = len(pieces) - 1
    return b"".join(frame(opcode if at == 0 else MORE, piece, at == last) for at, piece in enumerate(pieces))


def close(code=1000, reason=b""):
    return frame(CLOSE, struct.pack(">H", code) + reason)


def cases():
    """Name, bytes, size of the pieces in which they are written (0: at once)."""
    for group, opcode in ((1, TEXT), (2, BINARY)):
        for size in (0, 125, 126, 127, 128, 65535, 65536):
            yield f"1.{group} {size}", frame(opcode, b"*" * size), 0
        yield f"1.{group} chopped", frame(opcode, b"*" * 65536), 997
    for size in (0, 1, 5, 124, 125, 126):
        yield f"2 ping {size}", frame(PING, b"\xfe" * size), 0
    yield "2 ping chopped", frame(PING, b"\xfe" * 125), 1
    yield "2 pong", frame(PONG), 0
    yield "2 pong with payload", frame(PONG, b"unasked"), 0
    yield "2 pong and ping", frame(PONG, b"unasked") + frame(PING, b"asked"), 0
    for chop in (0, 1):
        yield f"2 ten pings {chop}", b"".join(frame(PING, b"%d" % n) for n in range(10)), chop
    hello = frame(TEXT, b"Hello, world!")
    for rsv in range(1, 8):
        for opcode in (TEXT, BINARY, PING, CLOSE):
            yield f"3 rsv {rsv} of {opcode}", hello + frame(opcode, b"x" * 3, rsv=rsv) + frame(PING), 0
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        for payload in (b"", b"x"):
            for chop in (0, 1):
                yield f"4 opcode {opcode} {payload} {chop}", hello + frame(opcode, payload) + frame(PING), chop
    first, rest = frame(TEXT, b"fragment1", False), frame(MORE, b"fragment2")
    for chop in (0, 1):
        yield f"5 ping in fragments {chop}", frame(PING, b"a", False) + frame(MORE, b"b"), chop
        yield f"5 pong in fragments {chop}", frame(PONG, b"a", False) + frame(MORE, b"b"), chop
        yield f"5 two fragments {chop}", first + rest, chop
        yield f"5 ping between {chop}", first + frame(PING, b"between") + rest, chop
        yield f"5 continuation of nothing {chop}", rest + hello, chop
        yield f"5 unfinished continuation {chop}", frame(MORE, b"x", False) + hello, chop
        yield f"5 text in a message {chop}", first + hello, chop
        pings = first + frame(PING, b"1") + frame(MORE, b"2", False) + frame(PING, b"2") + rest
        yield f"5 pings between {chop}", pings, chop
    texts = ["κόσμε", "Hello-µ@ßöäüàá-UTF-8!!", "\0", "\x7f", "\u0080", "\u07ff", "\u0800", "\uffff", "\U00010000",
             "\U0010ffff", "\ud7ff", "\ue000", "\ufffd", "\ufdd0", "a\u0300"]
    invalid = [b"\x80", b"\xbf", b"\x80\xbf\x80", b"\xc0 ", b"\xe0\x80", b"\xf0\x80\x80", b"\xc0\xaf", b"\xe0\x80\xaf",
               b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\x80\xed\xb0\x80",
               b"\xf4\x90\x80\x80", b"\xfe", b"\xff", b"\xfe\xfe\xff\xff", b"\xce\xba\xed\xa0\x80edited", b"\xf5\x80\x80\x80"]
    for at, payload in enumerate([text.encode() for text in texts] + invalid):
        yield f"6 whole {at}", frame(TEXT, payload), 0
        yield f"6 by octets {at}", frame(TEXT, payload), 1
        yield f"6 in fragments {at}", fragments(TEXT, payload, 1), 0
    yield "7 close and more", close() + hello + frame(PING, b"late"), 0
    yield "7 close twice", close() + close(), 0
    yield "7 close in a message", first + close() + rest, 0
    yield "7 large and close", frame(TEXT, b"x" * 262144) + close(), 0
    for payload in (b"", b"\x03", b"\x03\xe8", b"\x03\xe8Hello", b"\x03\xe8" + b"*" * 123, b"\x03\xe8" + b"*" * 124,
                    b"\x03\xe8\xce\xba\xed\xa0\x80"):
        yield f"7 close of {payload[:8]} {len(payload)}", frame(CLOSE, payload), 0
    for code in (0, 999, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1011, 1012, 1013, 1014, 1015, 1016, 1100, 2000,
                 2999, 3000, 3999, 4000, 4999, 5000, 65535):
        yield f"7 code {code}", close(code), 0
    for opcode in (TEXT, BINARY):
        for size in (1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 23, 1 << 24):
            yield f"9 {opcode} of {size}", frame(opcode, b"*" * size), 0
        for piece in (64, 256, 1024, 4096, 65536, 1 << 20):
            yield f"9 {opcode} in fragments of {piece}", fragments(opcode, b"*" * (1 << 22), piece), 0
        for chop in (64, 128, 256, 512, 1024, 2048):
            yield f"9 {opcode} written by {chop}", frame(opcode, b"*" * (1 << 20)), chop
        for size in (0, 16, 64, 256, 1024, 4096):
            yield f"9 {opcode} a thousand of {size}", frame(opcode, b"*" * size) * 1000, 0
    yield "10 fragments of 1300", fragments(TEXT, b"*" * 65536, 1300), 0


async def heard(port, sent, chop):
    """What an echo server says to these bytes: its messages, their sizes, and how it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = base64.b64encode(os.urandom(16))
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                 b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        return [head.split(b"\r\n")[0]]

    async def say():
        try:
            step = chop or len(sent)
            for at in range(0, len(sent), step):
                writer.write(sent[at:at + step])
                await writer.drain()
            # A server that is closed while it still echoes drops what it has not said yet.
            while time.monotonic() - last[0] < 0.15:
                await asyncio.sleep(0.05)
            writer.write(close())
        except OSError:
            pass

    last = [time.monotonic()]
    saying = asyncio.create_task(say())
    # Messages and not frames: who echoes may cut them otherwise.
    said, digest, size = [], hashlib.sha256(), 0
    try:
        while True:
            first, second = await reader.readexactly(2)
            last[0] = time.monotonic()
            length = second & 0x7f
            if length > 125:
                length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
            payload = await reader.readexactly(length)
            last[0] = time.monotonic()
            opcode = first & 0x0f
            if opcode > 7:
                # The words of a close frame are the library's own.
                said.append((opcode, payload[:2] if opcode == CLOSE else payload))
                continue
            digest.update(payload)
            size += length
            if first & 0x80:
                said.append(("message", size, digest.hexdigest()))
                digest, size = hashlib.sha256(), 0
    except (asyncio.IncompleteReadError, OSError):
        said.append("end")
    saying.cancel()
    writer.close()
    return said


async def main():
    direct, through = map(int, sys.argv[1:3])
    count, wrong, strict, again = 0, [], 0, 0
    for name, sent, chop in cases():
        once, then = [], []
        # A server that is closed while it still echoes says more or less, directly as well: then the two are
        # the same if they ever are.
        for attempt in range(6):
            # Pings and messages are answered on their own: which comes first is the server's affair, too.
            once.append(sorted(map(repr, await asyncio.wait_for(heard(direct, sent, chop), 60))))
            then.append(sorted(map(repr, await asyncio.wait_for(heard(through, sent, chop), 60))))
            if any(said in once for said in then):
                break
            again += 1
        else:
            wrong.append(f"{name}: directly {once[-1][-3:]}, through the gateway {then[-1][-3:]}")
        count += 1
        strict += repr((CLOSE, b"\x03\xe8")) not in once[-1]
    print(f"frames: {count - len(wrong)} of {count} cases the same as directly ({strict} end with an error; {again} asked again)")
    if wrong:
        sys.exit("\n".join(wrong))


asyncio.run(main())
