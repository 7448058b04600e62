"""httpx through pairs of versions.

  httpx_peer.py call CA      reads pairs, one JSON object a line, from stdin, and prints `pass NAME` for each:
      {"name": "HTTP/2 to HTTP/1.1", "at": "127.0.0.1:1234", "http2": true, "tls": false}
"""
import asyncio
import json
import ssl
import sys

import httpx

LARGE = 1_300_003


def pattern(length):
    return (bytes(range(251)) * (length // 251 + 1))[:length]


def want(what, found, wanted):
    if found != wanted:
        raise AssertionError(f"{what}: {found!r}, not {wanted!r}")


def call(client, version):
    large = pattern(LARGE)
    for path in (f"/size/{LARGE}", f"/open/{LARGE}"):
        answer = client.get(path)
        want(path, (answer.status_code, answer.http_version), (200, version))
        want(f"the body of {path}", answer.content == large, True)
    answer = client.post("/echo", content=large)
    want("POST", (answer.status_code, answer.headers["x-told"]), (200, str(LARGE)))
    want("its body", answer.content == large, True)
    pieces = (large[at:at + 50_000] for at in range(0, LARGE, 50_000))
    answer = client.post("/echo", content=pieces)
    want("an open POST", (answer.status_code, answer.headers["x-told"]), (200, "nothing"))
    want("its body", answer.content == large, True)
    answer = client.head("/size/1000")
    want("HEAD", (answer.status_code, answer.headers["content-length"], answer.content), (200, "1000", b""))
    for status in (204, 304):
        answer = client.get(f"/status/{status}")
        want(str(status), (answer.status_code, answer.content), (status, b""))
    want("trailers", client.get("/trailers").content, b"body")
    want("hints", (client.get("/hints").status_code, client.get("/hints").content), (200, b"late"))


async def many(client):
    """At once, over as few connections as the version allows; one is left in the middle."""
    async with client.stream("GET", f"/open/{LARGE}") as left:
        async for _ in left.aiter_raw(1000):
            break
    answers = await asyncio.gather(*(client.get(f"/size/{n * 1000}") for n in range(1, 21)))
    for n, answer in enumerate(answers, 1):
        want("one of many", answer.content == pattern(n * 1000), True)


def main(ca):
    trust = ssl.create_default_context(cafile=ca)
    for line in sys.stdin:
        pair = json.loads(line)
        settings = {
            "base_url": f"http{'s' if pair['tls'] else ''}://{pair['at']}",
            "verify": trust,
            # Without TLS this is prior knowledge.
            "http1": not pair["http2"],
            "http2": pair["http2"],
            "timeout": 20,
            "trust_env": False,
        }
        try:
            with httpx.Client(**settings) as client:
                call(client, "HTTP/2" if pair["http2"] else "HTTP/1.1")

            async def concurrently():
                async with httpx.AsyncClient(**settings) as client:
                    await many(client)

            asyncio.run(concurrently())
            print("pass", pair["name"], flush=True)
        except Exception as error:
            print("FAIL", pair["name"], repr(error), flush=True)


main(sys.argv[2])
