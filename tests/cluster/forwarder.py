"""Carries TCP connections from the machine's loopback address into the cluster's network namespace.

A socket belongs to the network namespace in which it was made, wherever its owner goes. So the caller makes the
listening socket outside and hands it over; this program runs inside, accepts on it and dials there. One process, no
route from the machine into the cluster. Runs as a plain script: `forwarder.py LISTENING_FD HOST PORT`.
"""

import asyncio
import contextlib
import socket
import sys
import time

CHUNK_BYTES = 256 * 1024
FIRST_ANSWER_SECONDS = 5


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy one direction; pass on its end."""
    with contextlib.suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()


async def forward(near_reader: asyncio.StreamReader, near_writer: asyncio.StreamWriter, host: str, port: int) -> None:
    try:
        far_reader, far_writer = await asyncio.open_connection(host, port)
    except OSError:
        near_writer.close()
        return
    try:
        await asyncio.gather(pump(near_reader, far_writer), pump(far_reader, near_writer))
    finally:
        near_writer.close()
        far_writer.close()


async def first_answer(host: str, port: int) -> None:
    """Wait a little for a target that is just starting; callers queue at the listening socket meanwhile."""
    deadline = time.monotonic() + FIRST_ANSWER_SECONDS
    while time.monotonic() < deadline:
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


async def serve(listening: socket.socket, host: str, port: int) -> None:
    """Later refusals are passed on as they are: a test that counts lost calls must see them."""
    await first_answer(host, port)
    server = await asyncio.start_server(
        lambda reader, writer: forward(reader, writer, host, port), sock=listening, limit=2 * CHUNK_BYTES
    )
    await server.serve_forever()


if __name__ == "__main__":
    descriptor, target_host, target_port = sys.argv[1:]
    asyncio.run(serve(socket.socket(fileno=int(descriptor)), target_host, int(target_port)))
