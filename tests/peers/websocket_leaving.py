"""Clients that leave a WebSocket in every way there is, and a server that never does by itself.

  websocket_leaving.py serve [CERTIFICATE KEY]   prints a port in the clear, and one over TLS; ends with its input
  websocket_leaving.py call [CA]                 reads pairs, one JSON object a line, and prints `pass NAME` for each

The server greets with the ports of its connection. By them a client sees what is left of the connection to the server once it
has left: a socket that a program still has is listed with an inode.
"""
import asyncio
import base64
import functools
import hashlib
import json
import ssl
import sys
import time

from h2.exceptions import StreamClosedError
from websocket_http2 import Http2

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
ESTABLISHED = "01"


async def stay(reader, writer):
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    fields = dict(line.split(": ", 1) for line in head.lower().split("\r\n")[1:] if ": " in line)
    key = next(line[19:] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key: "))
    accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
    greeting = f"{writer.get_extra_info('sockname')[1]} {writer.get_extra_info('peername')[1]}".encode()
    writer.write(
        f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {fields['upgrade']}\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode() + bytes([0x81, len(greeting)]) + greeting
    )
    try:
        while await reader.read(65536):
            pass
        # Whatever becomes of the client.
        await asyncio.get_running_loop().create_future()
    except OSError:
        pass


async def serving(*certificate):
    contexts = [None]
    if certificate:
        contexts.append(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        contexts[-1].load_cert_chain(*certificate)
    servers = [await asyncio.start_server(stay, "127.0.0.1", 0, ssl=context) for context in contexts]
    for server in servers:
        print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


@functools.lru_cache(1)
def sockets(_tick):
    """State by the ports of both ends, of those that a program has."""
    found = {}
    with open("/proc/net/tcp") as table:
        for row in list(table)[1:]:
            _, local, remote, state, _, _, _, _, _, inode, *_ = row.split()
            if inode != "0":
                found[int(local[9:], 16), int(remote[9:], 16)] = state
    return found


def state(ports):
    """Of the socket at the other end of the server's connection; nothing when no program has it."""
    server, client = map(int, ports.split())
    return sockets(time.monotonic() // 0.05).get((client, server))


async def until(what, ports, holds):
    deadline = time.monotonic() + 30
    while not holds(state(ports)):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: still {state(ports)}")
        await asyncio.sleep(0.05)


class ByConnect:
    """A client of HTTP/2."""

    def __init__(self, at, trust):
        self.http = Http2(at, trust)

    async def open(self):
        await self.http.__aenter__()
        self.socket = await self.http.websocket("/leaving", "any", False)
        return await asyncio.wait_for(self.socket.recv(), 20)

    async def end(self):
        await self.socket.write(b"", end=True)

    async def reset(self):
        try:
            self.http.h2.reset_stream(self.socket.stream, 8)
        except StreamClosedError:
            # Python's server over TLS ends by itself, and may have been quicker.
            return
        self.http.writer.write(self.http.h2.data_to_send())

    async def close(self):
        await self.http.__aexit__()


class ByUpgrade:
    """A client of HTTP/1.1."""

    def __init__(self, at, trust):
        self.at, self.trust = at, trust

    async def open(self):
        host, port = self.at.rsplit(":", 1)
        self.reader, self.writer = await asyncio.open_connection(host, int(port), ssl=self.trust)
        self.writer.write(
            f"GET /leaving HTTP/1.1\r\nHost: {self.at}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 20)
        assert head.startswith(b"HTTP/1.1 101 "), head
        _, length = await asyncio.wait_for(self.reader.readexactly(2), 20)
        return (await self.reader.readexactly(length)).decode()

    async def end(self):
        self.writer.write_eof()

    async def close(self):
        self.writer.close()


async def leave(pair, trust, ways):
    client = (ByConnect if pair["http2"] else ByUpgrade)(pair["at"], trust if pair["tls"] else None)
    ports = await client.open()
    await until("there is a connection", ports, lambda state: state == ESTABLISHED)
    for number, way in enumerate(ways):
        await getattr(client, way)()
        if number + 1 < len(ways):
            await until(f"the end is passed on, {ways}", ports, lambda state: state != ESTABLISHED)
    await until(f"the connection to the server ends, {ways}", ports, lambda state: state is None)


async def every_way(pair, ca):
    ways = [["close"]]
    if pair["http2"]:
        ways += [["end"], ["reset"], ["end", "reset"], ["end", "close"]]
    elif not pair["tls"]:
        # Python has no half of TLS.
        ways += [["end"], ["end", "close"]]
    try:
        trust = [ssl.create_default_context(cafile=ca) for _ in ways]
        await asyncio.gather(*(leave(pair, one, some) for one, some in zip(trust, ways)))
        print("pass", pair["name"], flush=True)
    except Exception as error:
        print("FAIL", pair["name"], repr(error), flush=True)


async def main(ca=None):
    await asyncio.gather(*(every_way(json.loads(line), ca) for line in sys.stdin))


if sys.argv[1] == "serve":
    asyncio.run(serving(*sys.argv[2:]))
else:
    asyncio.run(main(*sys.argv[2:]))
