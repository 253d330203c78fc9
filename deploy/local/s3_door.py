"""The way to the S3 server, on loopback: `python deploy/local/s3_door.py PORT SERVER_PORT`.

Ended and started again it is an outage: connections break and new ones are refused, as by a server that is down, while
what moto holds in memory stays, as a real server's disk would.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress


async def serve(port: int, server: int) -> None:
    """Hand every connection to `port` on to `server`, until the process ends."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection("127.0.0.1", server)
        await asyncio.gather(_copy(reader, requests), _copy(answers, writer))

    async with await asyncio.start_server(connected, "127.0.0.1", port) as door:
        await door.serve_forever()


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while content := await source.read(1 << 16):
            target.write(content)
            await target.drain()
    target.close()


if __name__ == "__main__":
    asyncio.run(serve(*map(int, sys.argv[1:3])))
