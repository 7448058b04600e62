"""A WebSocket server, and clients of it: by upgrade (`websockets`) and by extended CONNECT (RFC 8441: `h2` and `wsproto`).

  websocket_peer.py serve [CERTIFICATE KEY]   prints a port in the clear, and one over TLS; ends with its input
  websocket_peer.py call [CA]                 reads pairs, one JSON object a line, and prints `pass NAME` for each
"""
import asyncio
import json
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from websocket_http2 import Closed, Http2

LARGE = (bytes(range(251)) * 5200)[:1_300_003]


async def answer(socket):
    """Greets, then says what it hears; `bye` is answered by closing with a code of its own."""
    try:
        await socket.send("welcome")
        async for message in socket:
            if message == "bye":
                return await socket.close(4001, "as you wish")
            await socket.send(message)
    except ConnectionClosed:
        # A client that ends without a word is no fault of the server's.
        pass


async def serving(*certificate):
    contexts = [None]
    if certificate:
        contexts.append(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        contexts[-1].load_cert_chain(*certificate)
    for context in contexts:
        server = await serve(answer, "127.0.0.1", 0, ssl=context, max_size=None, subprotocols=["echo"])
        print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def want(what, found, wanted):
    if found != wanted:
        raise AssertionError(f"{what}: {found!r:.200}, not {wanted!r:.200}")


async def talk(socket):
    want("the subprotocol", socket.subprotocol, "echo")
    # The server speaks first.
    want("the greeting", await asyncio.wait_for(socket.recv(), 20), "welcome")
    await socket.send("héllo")
    want("text", await socket.recv(), "héllo")
    await socket.send(LARGE)
    want("much", await socket.recv() == LARGE, True)
    await socket.send([b"in ", b"three ", b"parts"])
    want("fragments", await socket.recv(), b"in three parts")
    await asyncio.wait_for(await socket.ping(), 20)
    await leave(socket)


async def leave(socket):
    await socket.send("bye")
    try:
        await socket.recv()
        raise AssertionError("the server did not close")
    except (ConnectionClosed, Closed):
        want("the code", (socket.close_code, socket.close_reason), (4001, "as you wish"))


async def each_own(many):
    for number, socket in enumerate(many):
        await socket.send(str(number))
    for number, socket in enumerate(many):
        want("whose", (await socket.recv(), await socket.recv()), ("welcome", str(number)))
        await leave(socket)


def path(pair):
    return pair.get("path", "") + "/chat"


async def by_upgrade(pair, trust):
    for compression in ("deflate", None):
        url = f"ws{'s' if pair['tls'] else ''}://{pair.get('host', pair['at'])}{path(pair)}"
        settings = {"ssl": trust if pair["tls"] else None, "compression": compression, "max_size": None}
        settings |= dict(zip(("host", "port"), pair["at"].rsplit(":", 1)))
        async with connect(url, subprotocols=["echo"], proxy=None, open_timeout=20, **settings) as socket:
            await talk(socket)
        # Many at once.
        many = (connect(url, subprotocols=["echo"], proxy=None, **settings) for _ in range(10))
        await each_own(await asyncio.gather(*many))


async def by_connect(pair, trust):
    for compression in (True, False):
        async with Http2(pair["at"], trust if pair["tls"] else None) as http:
            await talk(await http.websocket(path(pair), "echo", compression))
            # Many on one connection.
            many = (http.websocket(path(pair), "echo", compression) for _ in range(10))
            await each_own(await asyncio.gather(*many))


def main(ca=None):
    for line in sys.stdin:
        pair = json.loads(line)
        trust = ssl.create_default_context(cafile=ca)
        call = by_connect if pair["http2"] else by_upgrade
        try:
            asyncio.run(asyncio.wait_for(call(pair, trust), 20))
            print("pass", pair["name"], flush=True)
        except Exception as error:
            print("FAIL", pair["name"], repr(error), flush=True)


if sys.argv[1] == "serve":
    asyncio.run(serving(*sys.argv[2:]))
else:
    main(*sys.argv[2:])
