"""A WebSocket client by websockets: sizes, fragments, pings, close codes. Argument: the URL."""
import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

SIZES = [0, 1, 125, 126, 65535, 65536, 1 << 20, 16 << 20]


async def main():
    async with connect(sys.argv[1], max_size=64 << 20) as socket:
        for size in SIZES:
            await socket.send("x" * size)
            if await socket.recv() != "x" * size:
                sys.exit(f"echo of {size}")
        await socket.send(["frag", "ment", "ed"])
        if await socket.recv() != "fragmented":
            sys.exit("fragments")
        await asyncio.wait_for(await socket.ping(), 5)
        await socket.close(4321, "enough")
        try:
            await socket.recv()
        except ConnectionClosed as closed:
            if closed.rcvd is None or closed.rcvd.code != 4321:
                sys.exit(f"closed with {closed.rcvd}")
    print(f"websockets: {len(SIZES)} sizes, fragments, ping and close passed")


asyncio.run(main())
