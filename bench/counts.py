#!/usr/bin/env python3
"""Instructions of the proxy's worker per request in small scenarios, by callgrind: the same on every machine, quiet or not.

  counts.py                  counts and prints
  counts.py --check          and fails where a count is more than 5 % off counts.json
  counts.py --accept         and writes counts.json: a change is accepted by committing it
  counts.py --profile one    and prints where one scenario's instructions go (each function with what it inlines)
  counts.py --cache          simulates a first cache of 32 KiB and a last one of 1 MiB instead, and prints what 10,000 routes
                             and 1,000 clusters miss in them beyond one of each

What is counted is user space alone: a system call counts nothing. The program is crates/proxy/examples/counted.rs in profile
`counts` (what a request passes through optimised, the rest not: two minutes on two cores the first time). callgrind
comes with valgrind; the client and the upstreams are here, outside of it, one request at a time.
"""
import argparse, glob, json, os, re, select, shutil, socket, struct, subprocess, sys, tempfile, threading
import load

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
FILE = os.path.join(HERE, "counts.json")
BOUND = 0.05
GROWTH = 1.05
CACHES = ["--cache-sim=yes", "--I1=32768,8,64", "--D1=32768,8,64", "--LL=1048576,16,64"]
PIECE = 16384
BODY = {"128": b"x" * 128, "1k": b"x" * 1024, "64k": b"x" * 65536}

def listen(serve):
    """A server on a free port with a thread for each connection."""
    l = socket.create_server(("127.0.0.1", 0), backlog=64)
    def one(c):
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try: serve(c)
        except OSError: pass
    def loop():
        while True: threading.Thread(target=one, args=(l.accept()[0],), daemon=True).start()
    threading.Thread(target=loop, daemon=True).start()
    return f"127.0.0.1:{l.getsockname()[1]}"

def http_upstream(c):
    got = b""
    while True:
        while b"\r\n\r\n" not in got:
            data = c.recv(65536)
            if not data: return
            got += data
        head, got = got.split(b"\r\n\r\n", 1)
        body = BODY["64k" if b"GET /64k" in head else "1k"]
        c.sendall(b"HTTP/1.1 200 OK\r\nServer: counts\r\nDate: Fri, 20 Nov 2026 11:00:00 GMT\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

def frame(kind, flags, stream, body=b""): return struct.pack(">I", len(body))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + body
def field(name, value): return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value   # literal, not indexed

class Frames:
    """HTTP/2 frames from a connection; answers SETTINGS and PING, gives back what DATA takes from the connection's window."""
    def __init__(s, c, got=b""): s.c, s.got = c, got
    def next(s):
        while True:
            while len(s.got) < 9 or len(s.got) < 9 + int.from_bytes(s.got[:3], "big"):
                data = s.c.recv(65536)
                if not data: raise OSError("closed")
                s.got += data
            n = 9 + int.from_bytes(s.got[:3], "big")
            kind, flags, stream, body = s.got[3], s.got[4], int.from_bytes(s.got[5:9], "big"), s.got[9:n]
            s.got = s.got[n:]
            if kind == 4 and not flags & 1: s.c.sendall(frame(4, 1, 0))
            elif kind == 6 and not flags & 1: s.c.sendall(frame(6, 1, 0, body))
            elif kind == 7: raise OSError(f"GOAWAY {body}")
            elif kind in (0, 1, 3): return kind, flags, stream, body

def grpc_upstream(c):
    got = b""
    while len(got) < 24: got += c.recv(24 - len(got))
    c.sendall(frame(4, 0, 0))
    frames = Frames(c)
    answer = field(b":status", b"200") + field(b"content-type", b"application/grpc")
    while True:
        kind, flags, stream, _ = frames.next()
        if kind != 3 and flags & 1:
            c.sendall(frame(1, 4, stream, answer) + frame(0, 0, stream, b"\0\0\0\0\x0b\x0a\x09hello you") + frame(1, 5, stream, field(b"grpc-status", b"0")))

def tcp_upstream(c):
    """Answers each piece with as much. A piece is small enough to arrive whole: counts follow how often there is something to read."""
    while True:
        n = 0
        while n < PIECE:
            data = c.recv(PIECE)
            if not data: return
            n += len(data)
        c.sendall(BODY["64k"][:PIECE])

def connect(at):
    host, port = at.rsplit(":", 1)
    c = socket.create_connection((host, int(port)), 30); c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return c

def answer(c):
    got = b""
    while b"\r\n\r\n" not in got:
        data = c.recv(1 << 18)
        if not data: raise OSError("closed")
        got += data
    head, rest = got.split(b"\r\n\r\n", 1)
    if not head.startswith(b"HTTP/1.1 200"): raise OSError(head.decode("latin1"))
    left = int(re.search(rb"(?i)content-length: (\d+)", head)[1]) - len(rest)
    while left > 0:
        data = c.recv(1 << 18)
        if not data: raise OSError("closed in a body")
        left -= len(data)

def http_client(at, requests):
    """A function that sends the next request and reads its answer."""
    c, n = connect(at), [0]
    def one():
        c.sendall(requests[n[0] % len(requests)]); n[0] += 1
        answer(c)
    return one

def get(host, path, extra=""):
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: counts/1\r\nAccept: */*\r\nx-request-id: 0123456789abcdef\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n{extra}\r\n".encode()

def drawn(table):
    """Requests over a table as the load of the goals draws them."""
    all = load.requests(table, 1000)
    return [get(h, p, f"x-tenant: {t}\r\nx-env: {e}\r\n") for h, p, t, e, _ in (all[n] for n in load.draws(1000, len(all)))]

def grpc_client(at):
    c = connect(at)
    c.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
    frames, stream = Frames(c), [1]
    head = b"".join(field(n, v) for n, v in ((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/bench.Echo/Say"), (b":authority", b"bench.test"), (b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"user-agent", b"counts/1")))
    def one():
        s = stream[0]; stream[0] += 2
        c.sendall(frame(1, 4, s, head) + frame(0, 1, s, b"\0\0\0\0\x05\x0a\x03you"))
        while True:
            kind, flags, at, body = frames.next()
            if kind == 3: raise OSError(f"reset {body}")
            if at == s and flags & 1: return
    return one

def tcp_client(at):
    c = connect(at)
    def one():
        for _ in range((1 << 19) // PIECE):   # 512 KiB there, as much back
            c.sendall(BODY["64k"][:PIECE]); n = 0
            while n < PIECE:
                data = c.recv(PIECE)
                if not data: raise OSError("closed")
                n += len(data)
    return one

class Counted:
    """The program under callgrind. Its counts begin again with each look at the admin server's metrics: that is when the
    worker enters Collected::of."""
    def __init__(s, program, tables, dir, flags=()):
        s.dir = dir
        files = []
        for n, table in enumerate(tables):
            files.append(os.path.join(dir, f"table{n}.json")); json.dump(table, open(files[-1], "w"))
        ups = [listen(http_upstream), listen(grpc_upstream), listen(tcp_upstream)]
        s.p = subprocess.Popen(["valgrind", "--tool=callgrind", "--separate-threads=yes", "--dump-before=*Collected::of*", f"--callgrind-out-file={dir}/out", *flags, program, *ups, *files],
                               stdout=subprocess.PIPE, stderr=open(os.path.join(dir, "log"), "w"), text=True, cwd=dir)
        if not select.select([s.p.stdout], [], [], 320)[0]: sys.exit("counts: the program does not start")
        s.at = json.loads(s.p.stdout.readline() or sys.exit("counts: the program ended: " + open(os.path.join(dir, "log")).read()[-3000:]))
    def look(s):
        """The file of the worker's counts since the last look."""
        before = set(glob.glob(s.dir + "/out.*"))
        c = connect(s.at["admin"])
        c.sendall(b"GET /stats/prometheus HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        while c.recv(1 << 16): pass
        files = [f for f in sorted(set(glob.glob(s.dir + "/out.*")) - before) if re.search(r"\.\d+-\d+$", f)]
        return max(files, key=total, default=None)
    def stop(s): s.p.kill(); s.p.wait()

def total(file):
    """All that the thread ran, less what the clock makes it do: its own loop looks through idle connections every 2 s."""
    spent, names, at, inside = 0, {}, None, False
    text = open(file).read()
    m = re.search(r"^(?:totals|summary): (\d+)", text, re.M)
    for line in text.split("\n"):
        f = re.match(r"fn=\((\d+)\)(?: (.*))?", line) or re.match(r"cfn=\((\d+)\)(?: (.*))?", line)
        if f:
            names.setdefault(f[1], f[2] or "")
            if line.startswith("fn="): inside = re.search(r"worker::run::(run::|.*::sweep$)", names[f[1]]) is not None
        elif inside and line[:1] in tuple("+-*0123456789"): spent += int(line.split()[1])
    return (int(m[1]) if m else 0) - spent

def functions(file, events=("Ir",)):
    """What each function spent itself (the sum of those events), and how often it was called."""
    names, spent, called, at, of, inner, columns = {}, {}, {}, None, None, False, [1]
    for line in open(file):
        if line.startswith("events:"): columns = [n + 1 for n, event in enumerate(line.split()[1:]) if event in events]
        m = re.match(r"(c?fn)=\((\d+)\)(?: (.*))?", line)
        if m:
            names.setdefault(m[2], m[3] or m[2])
            if m[1] == "fn": at = m[2]
            else: of = m[2]
        elif line.startswith("calls="): inner = True; called[of] = called.get(of, 0) + int(line[6:].split()[0])
        elif line[0] in "+-*0123456789":
            # Zeros at the end of a line are left out.
            if not inner: spent[at] = spent.get(at, 0) + sum(int(n) for c in columns for n in line.split()[c:c + 1])
            inner = False
    return sorted(((n, called.get(f, 0), names[f]) for f, n in spent.items()), reverse=True)

def cache(program, tables, dir):
    """What a request misses in the caches, with one route and with many."""
    p, misses = Counted(program, tables, dir, CACHES), {}
    try:
        for name, one in (("one", http_client(p.at["one"], drawn(tables[0]))), ("many", http_client(p.at["table1"], drawn(tables[1])))):
            for _ in range(1500): one()
            p.look()
            for _ in range(1500): one()
            file = p.look()
            for level, events in (("first", ("D1mr", "D1mw")), ("last", ("DLmr", "DLmw"))):
                misses[level, name] = {f: spent / 1500 for spent, _, f in functions(file, events)}
    finally: p.stop()
    print("misses of data a request: first cache, last cache (of one route; beyond it with 10,000 routes and 1,000 clusters)")
    def beyond(level, f): return misses[level, "many"].get(f, 0) - misses[level, "one"].get(f, 0)
    sums = {level: sum(misses[level, "one"].values()) for level in ("first", "last")}
    print(f"  {sums['first']:7.1f} {sums['last']:7.1f}  of one route")
    print(f"  {sum(misses['first', 'many'].values()) - sums['first']:+7.1f} {sum(misses['last', 'many'].values()) - sums['last']:+7.1f}  beyond it, of which")
    for f in sorted(misses["last", "many"], key=lambda f: -beyond("last", f))[:25]: print(f"  {beyond('first', f):+7.1f} {beyond('last', f):+7.1f}  {f[:120]}")

def main():
    P = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("check", "accept", "cache"): P.add_argument("--" + flag, action="store_true")
    P.add_argument("--profile", default="");
    P.add_argument("--program", default=""); P.add_argument("--keep", default="")
    a = P.parse_args()
    program = a.program
    if not program:
        subprocess.run(["cargo", "build", "--locked", "-q", "--profile", "counts", "-p", "heddle-proxy", "--example", "counted"], cwd=ROOT, check=True)
        program = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), "counts/examples/counted")
    tables = [load.routes(1000), load.routes(10000, 1000)]
    dir = a.keep or tempfile.mkdtemp(prefix="counts-"); os.makedirs(dir, exist_ok=True)
    if a.cache:
        cache(program, tables, dir)
        if not a.keep: shutil.rmtree(dir)
        return
    p = Counted(program, tables, dir)
    scenarios = {"http1 1k": (200, http_client(p.at["one"], [get("bench.test", "/1k")])),
                 "logged 1k": (200, http_client(p.at["logged"], [get("bench.test", "/1k")])),
                 "http1 64k": (100, http_client(p.at["one"], [get("bench.test", "/64k")])),
                 "grpc unary": (200, grpc_client(p.at["grpc"])),
                 "tcp 1 MiB": (20, tcp_client(p.at["tcp"])),
                 "1 route": (500, http_client(p.at["one"], drawn(tables[0]))),
                 "1000 routes": (1000, http_client(p.at["table0"], drawn(tables[0]))),
                 "10000 routes": (1000, http_client(p.at["table1"], drawn(tables[1])))}
    old = json.load(open(FILE)) if os.path.exists(FILE) else {}
    counts, wrong = {}, []
    try:
        for name, (times, one) in scenarios.items():
            for _ in range(times if "route" in name else 20): one()   # every connection and buffer is there afterwards
            p.look()
            for _ in range(times): one()
            file = p.look()
            counts[name] = round(total(file) / times)
            was = old.get(name)
            off = (counts[name] / was - 1) if was else None
            if off is not None and abs(off) > BOUND: wrong.append(name)
            print(f"{name:12} {counts[name]:8} instructions" + (f"  {100 * off:+.1f} % of {was}" if was else ""), flush=True)
            if a.profile and a.profile in name:
                for spent, called, name in functions(file)[:30]: print(f"  {spent / times:8.0f} in {called / times:5.1f} calls  {name[:120]}")
    finally: p.stop()
    if not a.keep: shutil.rmtree(dir)
    growth = counts["10000 routes"] / counts["1 route"]
    print(f"10000 routes and 1000 clusters vs one of each: {growth:.3f}")
    if a.check and growth > GROWTH: sys.exit(f"counts: routing over 10,000 routes costs {growth:.3f} of routing over one, more than {GROWTH}: what grows with the table is in decide::index")
    if a.accept: json.dump(counts, open(FILE, "w"), indent=1); open(FILE, "a").write("\n")
    if a.check and (wrong or not old):
        sys.exit(f"counts: more than {100 * BOUND:.0f} % off bench/counts.json: {', '.join(wrong) or 'it is not there'}. "
                 "If that is meant (a feature that costs, or work saved), run bench/counts.py --accept and commit bench/counts.json, and say why in the message.")

if __name__ == "__main__": main()
