"""An origin that bears so many requests at once, 20 ms each, and lets the others wait: slow_origin.py PORT CAPACITY"""

import asyncio
import sys

SERVICE = 0.02
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nxx"


async def main(port, capacity):
    turns = asyncio.Semaphore(capacity)

    async def serve(reader, writer):
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                async with turns:
                    await asyncio.sleep(SERVICE)
                writer.write(ANSWER)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
