"""The goals' table: `bench.py goals` measures its rows, `bench.py table` renders and judges them from the raw data.

  bench.py goals [--rows h1-1k,grpc] [--reps 10] [--runs 2] [--secs 2] [--warm 1] [--only heddle,haproxy] [--out goals.jsonl]
  bench.py table goals.jsonl [more.jsonl ...] [--write ../docs/performance.md]

Every contender of a row runs at once, one worker on one pinned core, the load, the upstreams, the control plane and this
program on the other; every round measures each once in a new random order. What is compared is the contender's CPU time
for each correct answer. HTTP/1.1 rows draw requests by Zipf over 10,000 combinations on 1,000 routes (load.py); the answer
names its cluster and carries the trace header back to back, or the row fails; heddle is scraped every second, and what it
counted must be what was answered. A row holds when the median of its per-round ratios is within the bound in one run of 10
rounds and within 0.04 of it in the other."""
import argparse, functools, gzip, json, os, random, re, statistics as st, subprocess, sys, tempfile, threading, time, urllib.request
import adapters, attacks, bench, load, routed

# row: (title, what is compared, {base: (must, reach)})
ROWS = {
    "h1-1k":   ("HTTP/1.1, 1 KiB", {"haproxy": (0.90, 0.80), "envoy": (0.40, 0.36), "relay": (1.25, 1.15)}),
    "h1-128":  ("HTTP/1.1, 128 B", {"haproxy": (0.95, 0.85), "relay": (1.25, 1.15)}),
    "h1-64k":  ("HTTP/1.1, 64 KiB", {"haproxy": (0.80, 0.70), "relay": (1.20, 1.10)}),
    "mtls2":   ("two hops with mTLS", {"haproxy": (0.80, 0.65), "ztunnel": (1.00, 0.85)}),
    "grpc":    ("gRPC unary, h2c both sides", {"haproxy": (1.10, 0.80), "envoy": (0.35, 0.27)}),
    "hs":      ("full TLS 1.3 handshake, P-256, X25519", {"haproxy": (0.60, 0.50), "envoy": (0.75, 0.65)}),
    "hs-pq":   ("the same with X25519MLKEM768 where both sides have it", {}),
    "https":   ("https request", {"haproxy": (0.90, 0.75), "envoy": (0.48, 0.40)}),
    "tcp":     ("TCP per GB", {"haproxy": (0.40, 0.33)}),
    "latency": ("added latency at a fixed rate", {"p50": (5, 0), "p99": (1.0, 0.7)}),
    "memory":  ("memory", {"idle MiB": (6, 4), "KiB per idle connection": (1.1, 0.5), "KiB per idle TLS connection": (6, 3), "MiB with 10,000 routes and endpoints": (40, 25)}),
    "routes":  ("10,000 routes and 1,000 clusters vs one of each", {"heddle-1": (1.05, 1.02)}),
    "routes-floor": ("a relay of a pool: 1,000 upstream addresses vs one", {"pool-1": None}),
    "access-log": ("access log to a file on vs off", {"heddle": (1.10, 1.05)}),
}
# who takes part besides heddle
PEERS = {"h1-1k": "relay haproxy nginx envoy pingora linkerd", "h1-128": "relay haproxy nginx envoy", "h1-64k": "relay haproxy nginx envoy", "mtls2": "haproxy nginx envoy linkerd ztunnel",
         "grpc": "direct haproxy nginx envoy linkerd", "hs": "haproxy nginx envoy", "hs-pq": "haproxy nginx envoy", "https": "haproxy nginx envoy", "tcp": "direct relay splice haproxy nginx envoy",
         "latency": "direct haproxy envoy", "routes-floor": "pool-1000 pool-1", "memory": "haproxy nginx envoy"}
PORT = 18080

class Stop(Exception): pass

def metrics(at):
    with urllib.request.urlopen(f"http://{at}/stats/prometheus", timeout=20) as answer: return answer.read().decode()
def counted(at):
    """What a proxy says it has carried."""
    return sum(float(v) for v in re.findall(r'^istio_requests_total\{[^}]*reporter="source"[^}]*\} (\S+)', metrics(at), re.M))

class Scraper:
    """Reads the metrics of each proxy that has them every second, as a collector would."""
    def __init__(s, at):
        s.at, s.end = at, threading.Event()
        s.t = threading.Thread(target=s.run, daemon=True); s.t.start()
    def run(s):
        while not s.end.wait(1.0):
            try: metrics(s.at)
            except OSError: pass
    def stop(s): s.end.set(); s.t.join()

def contender(name, row, base, port, a):
    """(function, context) of a contender in a row, or why it has none."""
    kind = {"hs": "tls", "hs-pq": "tls", "https": "tls", "mtls2": "mtls2", "grpc": "grpc", "tcp": "tcp"}.get(row, "http")
    c = bench.Ctx(kind, port, f"127.0.0.1:{PORT}", os.path.join(base, "pki"), base, f"{row}-{name}")
    c.metrics, c.port_up, c.clusters, c.table = None, PORT, 50, None
    if row.startswith("h1-") or row in ("latency", "routes", "routes-floor", "access-log"):
        c.table = load.routes(1000)
        if name == "heddle-10000": c.table, c.clusters = load.routes(10000, 1000), 1000
        if name == "heddle-1": c.table, c.clusters = load.routes(1, 1), 1
        made = {"relay": routed.floor, "haproxy": routed.haproxy, "nginx": routed.nginx, "envoy": routed.envoy, "direct": None}
        fn = routed.heddle if name.startswith("heddle") else made.get(name, adapters.ALL.get(name, (None,))[0])
        if name.startswith("pool-"): fn = lambda c: [[c.run("relay"), f"127.0.0.1:{c.port}", str(PORT), "pool", name[5:]]]
        if name == "heddle-log": fn = functools.partial(routed.heddle, flags=adapters.access_log(c))
        c.up = routed.upstream(c, 0)
        need = ["heddle"] if name.startswith("heddle") else ["relay"] if name.startswith("pool-") else [name] if name in made and name != "direct" else adapters.ALL[name][2]
    else:
        if name not in adapters.ALL: return None, f"no adapter for {name}"
        fn, kinds, need = adapters.ALL[name]
        if kind not in kinds.split(): return None, f"{name} has no adapter for {kind}"
    miss = [b for b in need if not os.path.exists(bench.binary(b) or "/nonexistent")]
    return (None, f"no binary: {', '.join(miss)}") if miss else ((fn, c), None)

def measure(row, name, p, a, base, files):
    """One round of one contender: what lg or h2load printed."""
    pids = ",".join(map(str, p.pids()))
    common = ["--addr", p.target, "--secs", str(a.secs), "--warm", str(a.warm), "--core", a.proxy_core] + (["--pids", pids] if pids else [])
    pki = os.path.join(base, "pki")
    def lg(what, *more):
        out = subprocess.run([*bench.RT, "taskset", "-c", a.load_core, a.lg, what, *common, *more], capture_output=True, text=True, timeout=180)
        return json.loads(out.stdout or json.dumps({"errors": 1, "done": 0, "cpu_ns": 0, "err": out.stderr[-300:]}))
    if row.startswith("h1-") or row in ("routes", "routes-floor", "access-log"):
        table = files["heddle-1" if name == "heddle-1" else "heddle-10000" if name == "heddle-10000" else "all"]
        # what carries bytes and routes nothing is not asked for the right cluster
        check = [] if name not in ("relay", "pool-1000", "pool-1", "direct", "pingora", "linkerd") else ["--check", "0"]
        size = row[3:] if row.startswith("h1-") else "1k"
        before = counted(p.ctx.metrics) if p.ctx.metrics else 0
        scraper = Scraper(p.ctx.metrics) if p.ctx.metrics else None
        log = os.path.join(p.ctx.dir, "access.log")
        logged = os.path.getsize(log) if os.path.exists(log) else 0
        # a thousand clusters have their connections only after a while
        if row in ("routes", "routes-floor"): common[5] = str(max(a.warm, 5.0))
        r = lg("http", "--conns", str(a.conns or 64), "--load", table, "--size", size, "--draw", str(random.getrandbits(62)), *check)
        if scraper:
            scraper.stop()
            r["counted"] = counted(p.ctx.metrics) - before
            if r["counted"] != r.get("answered"): r["errors"] += 1; r["err"] = f"istio_requests_total grew by {r['counted']:.0f}, answered were {r.get('answered')}"
        if name == "heddle-log":
            # lines wait for a second at most
            time.sleep(1.2)
            written = (os.path.getsize(log) if os.path.exists(log) else 0) - logged
            if written < 100 * r.get("answered", 1): r["errors"] += 1; r["err"] = f"the access log grew by {written} bytes for {r.get('answered')} answers"
            # a round of some seconds writes gigabytes in a day
            os.truncate(log, 0)
        return r
    if row == "latency": return lg("http", "--conns", "16", "--rate", str(a.rate), "--load", files["all"], "--size", "1k", *([] if name not in ("direct",) else ["--check", "0"]))
    if row == "mtls2": return lg("http", "--conns", str(a.conns or 64), "--path", "/1k")
    if row == "tcp": return lg("tcp", "--conns", str(a.conns or 4))
    if row in ("hs", "hs-pq"): return lg("hs", "--threads", "6", "--ca", pki + "/ca.pem", "--group", "X25519MLKEM768" if row == "hs-pq" else "X25519")
    a.path = "/1k"
    if row == "https": return bench.h2load(a, p.target, True, a.secs, a.warm, ["--h1", "-c", str(a.conns or 64), "-m1", "-t1"], p.pids(), a.proxy_core)
    open(base + "/body", "wb").write(b"\0\0\0\0\x05\x0a\x03you")
    return bench.h2load(a, p.target, False, a.secs, a.warm, ["-c", str(a.conns or 16), "-m", "8", "-t1", "-d", base + "/body", "-H", ":authority: bench.test", "-H", "content-type: application/grpc", "-H", "te: trailers"], p.pids(), a.proxy_core)

def upstream(row, a, base):
    at = f"0.0.0.0:{PORT}"
    what = {"grpc": ["h2serve", "--addr", at], "tcp": ["source", "--addr", at]}.get(row) or ["serve", "--addr", at, "--traced", "1" if row.startswith("h1-") else "0"]
    p = subprocess.Popen([*bench.RT, "taskset", "-c", a.load_core, a.lg, *what], stderr=subprocess.DEVNULL)
    if not bench.wait_port(PORT): sys.exit("the upstream does not start")
    return p

def start(row, names, base, a):
    ps, port = {}, 20000
    for name in names:
        port += 100
        made, why = contender(name, row, base, port, a)
        if made is None: print(f"{row}: {name} is left out: {why}", file=sys.stderr); continue
        try:
            ps[name] = bench.Proc(name, made[0], made[1], a.proxy_core)
            if made[0] is None: ps[name].ctx.metrics = None
            if made[1].metrics: settled(made[1], a)
        except Exception as e: print(f"{row}: {name} is left out, it did not start: {e}", file=sys.stderr)
    return ps

def settled(c, a):
    """Waits until a routed proxy serves what it was given."""
    file = os.path.join(c.dir, "ready.tsv"); load.write(file, c.table, 200)
    end = time.time() + 60
    while True:
        out = subprocess.run([a.lg, "http", "--addr", f"127.0.0.1:{c.port}", "--conns", "1", "--secs", "0.2", "--warm", "0", "--load", file], capture_output=True, text=True, timeout=60).stdout
        r = json.loads(out or '{"errors":1,"err":"no answer"}')
        if r["errors"] == 0 and r["done"]: return
        if time.time() > end: raise RuntimeError(f"is not ready: {r.get('err')}")
        time.sleep(0.5)

def run_row(row, a, base, write):
    names = [n for n in (PEERS.get(row, "").split() + {"routes": ["heddle-10000", "heddle-1"], "routes-floor": [], "access-log": ["heddle", "heddle-log"]}.get(row, ["heddle"])) if not a.only or n.split("-")[0] in a.only.split(",")]
    if row == "memory": return memory(names, a, base, write)
    files = {k: os.path.join(base, k + ".tsv") for k in ("all", "heddle-1", "heddle-10000")}
    load.write(files["all"], load.routes(1000)); load.write(files["heddle-10000"], load.routes(10000, 1000))
    with open(files["heddle-1"], "w") as f:   # the same requests as of the long table, all to the one host and cluster
        for h, p, t, e, _ in load.requests(load.routes(10000, 1000)): f.write("\t".join((load.host(0), p, t, e, "0")) + "\n")
    spin = bench.quiet(a) if row == "latency" else []
    up, ps = upstream(row, a, base), {}
    try:
        ps = start(row, names, base, a)
        for n in range(a.reps):
            order = list(ps); random.shuffle(order)
            for name in order:
                p = ps[name]; p.nat(True)
                try: r = measure(row, name, p, a, base, files)
                except Exception as e: r = {"errors": 1, "done": 0, "cpu_ns": 0, "err": str(e)}
                p.nat(False)
                if cost(row, r) is None and not r["errors"]: r.update(errors=1, err=r.get("err") or "no answer")
                write({"row": row, "round": n, "contender": name, **r})
                print(f"  {row} round {n + 1} {name}: {cost(row, r)} " + " ".join(f"{k}={r[k]}" for k in ("rps", "p50", "p99", "errors", "err", "core_busy") if r.get(k)), file=sys.stderr, flush=True)
    finally:
        for p in ps.values(): p.nat(False); p.stop()
        bench.end(up); bench.RT[:] = []
        for x in spin: x.kill(); x.wait()

def rss(pids): return bench.pss(pids)[1]

def memory(names, a, base, write):
    """MiB at rest, KiB for each idle connection, and MiB with a large configuration."""
    up = upstream("memory", a, base)
    def held(target, k, *more):
        h = subprocess.Popen([a.lg, "idle", "--addr", target, "--conns", str(k), "--path", "/128", *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        said = h.stdout.readline()
        return h, said
    def answers(target, *more):
        """Waits until a proxy has its configuration."""
        for _ in range(60):
            h, said = held(target, 1, *more)
            h.communicate("\n", 30)
            if said.startswith("READY 1 errors 0"): return
            time.sleep(0.5)
    def grown(p, k, *more):
        before = bench.pss(p.pids())[0]
        h, said = held(p.target, k, *more)
        time.sleep(1)
        after = bench.pss(p.pids())[0]
        h.communicate("\n", 30)
        if not said.startswith(f"READY {k} errors 0"): raise RuntimeError(f"{k} connections: {said.strip() or 'none'}")
        return (after - before) / k
    try:
        for name in names:
            got = {"row": "memory", "contender": name, "errors": 0}
            for what, kind, more in (("", "memory", []), (" TLS", "hs", ["--ca", os.path.join(base, "pki/ca.pem")])):
                ps = start(kind, [name], base, a)
                if name not in ps: continue
                p = ps[name]
                try:
                    if not what: time.sleep(2); got["idle MiB"] = rss(p.pids()) / 1024
                    answers(p.target, *more)
                    grown(p, 100, *more)
                    got[f"KiB per idle{what} connection"] = grown(p, a.idle, *more)
                except Exception as e: print(f"memory: {name}{what}: {e}", file=sys.stderr)
                finally: p.stop()
            if name == "heddle":
                c = bench.Ctx("http", 29000, "", os.path.join(base, "pki"), base, "memory-large")
                c.metrics, c.port_up, c.clusters, c.table = None, PORT, 50, load.routes(10000, 50)
                p = bench.Proc(name, functools.partial(routed.heddle, endpoints=200), c, a.proxy_core)
                try:
                    end = time.time() + 60
                    while time.time() < end and len(re.findall(r"::cx_active::", urllib.request.urlopen(f"http://{c.metrics}/clusters", timeout=20).read().decode())) < 10000: time.sleep(0.5)
                    time.sleep(2); got["MiB with 10,000 routes and endpoints"] = rss(p.pids()) / 1024
                finally: p.stop()
            write(got); print("  ", got, file=sys.stderr, flush=True)
    finally: bench.end(up)

def cost(row, r):
    """What a round is judged by; None when it counts for nothing."""
    if row == "latency": return r.get("p50")
    if row == "tcp": return r["cpu_ns"] / r["bytes"] if r.get("bytes") else None
    return r["cpu_ns"] / r["done"] / 1e3 if r.get("done") else None

def ratios(row, lines, one, other):
    """Per-round ratios of one run."""
    of = lambda name: {l["round"]: l for l in lines if l["contender"] == name and not l["errors"]}
    mine, theirs = of(one), of(other)
    return [cost(row, mine[n]) / cost(row, theirs[n]) for n in sorted(set(mine) & set(theirs)) if cost(row, mine[n]) and cost(row, theirs[n])]

def judge(values, must, reach, slack=0.04):
    """reach, must or missed; values are those of the runs."""
    for word, bound in (("reached", reach), ("holds", must)):
        if min(values) <= bound and max(values) <= bound + (slack if len(values) > 1 else 0): return word
    return "missed"

def table(files, write):
    lines = [json.loads(l) for f in files for l in (gzip.open(f, "rt") if f.endswith(".gz") else open(f))]
    hostile = [l for l in lines if "attack" in l]
    if hostile: made("attacks", attacks.table(hostile), write)
    lines = [l for l in lines if "attack" not in l]
    if lines: made("goals", judged(lines), write)

def made(what, text, write):
    """Prints a table, and puts it between its marks in a document."""
    print(text)
    if not write: return
    doc = open(write).read()
    begin, end = f"<!-- {what}: made by bench.py table -->", f"<!-- end of {what} -->"
    if begin not in doc: sys.exit(f"{write} has no line {begin}")
    open(write, "w").write(doc[:doc.index(begin) + len(begin)] + "\n" + text + "\n" + doc[doc.index(end):])

def judged(lines):
    # Each row has runs of its own: some may have been measured again.
    of = {row: sorted({l["run"] for l in lines if l["row"] == row}, key=str) for row in ROWS}
    runs = range(max(map(len, of.values())))
    out = ["| row | compared with | " + " | ".join(f"run {n + 1}" for n in runs) + " | must / reach | verdict |", "|" + "---|" * (len(runs) + 4)]
    add = lambda title, base, texts, bounds, verdict: out.append(f"| {title} | {base} | " + " | ".join([*texts, *["-"] * len(runs)][:len(runs)]) + f" | {bounds} | {verdict} |")
    for row, (title, bounds) in ROWS.items():
        here = [[l for l in lines if l["run"] == r and l["row"] == row] for r in of[row]]
        if not here: continue
        own = {"routes": "heddle-10000", "routes-floor": "pool-1000", "access-log": "heddle-log"}.get(row, "heddle")
        failed = [l for run in here for l in run if l["contender"] == own and l["errors"]]
        if row == "memory":
            for what, (must, reach) in bounds.items():
                got = [l[what] for run in here for l in run if l["contender"] == own and what in l]
                peers = "; ".join(f"{l['contender']} {l[what]:.1f}" for l in here[0] if l["contender"] != own and what in l)
                if got: add(what, peers or "-", [f"{x:.1f}" for x in got], f"{must} / {reach}", judge(got, must, reach, 0))
                else: add(what, peers or "-", [], f"{must} / {reach}", "not measured")
            continue
        if row == "latency":
            for what, (must, reach) in bounds.items():
                got = []
                for run in here:
                    by = {}
                    for l in run: by.setdefault(l["round"], {})[l["contender"]] = l
                    full = [r for r in by.values() if all(k in r and not r[k]["errors"] for k in ("direct", "haproxy", "heddle"))]
                    if what == "p50": values = [r["heddle"]["p50"] - r["haproxy"]["p50"] for r in full]
                    else: values = [(r["heddle"]["p99"] - r["direct"]["p99"]) / max(0.1, r["haproxy"]["p99"] - r["direct"]["p99"]) for r in full]
                    if values: got.append(st.median(values))
                add(f"{title}, {what}", "haproxy", [f"{x:.2f}" + (" us more" if what == "p50" else "") for x in got], f"{must} / {reach}", judge(got, must, reach) if got and not failed else "missed" if failed else "not measured")
            continue
        if not bounds: bounds = {n: None for n in PEERS[row].split()}
        for base, bound in bounds.items():
            got = [ratios(row, run, own, base) for run in here]
            if not all(got):
                why = "failed: " + " ".join(str(failed[0].get("err") or f"{failed[0]['errors']} errors").split()) if failed else f"no {own if not any(l['contender'] == own for run in here for l in run) else base}"
                add(title, base, [], "{} / {}".format(*bound) if bound else "-", why); continue
            texts = [f"{st.median(v):.2f} [{min(v):.2f}-{max(v):.2f}]" for v in got]
            add(title, base, texts, "{} / {}".format(*bound) if bound else "-", ("missed: errors" if failed else judge([st.median(v) for v in got], *bound)) if bound else "reported")
    out += ["", "| row | " + " | ".join(names := sorted({l["contender"] for l in lines})) + " |", "|" + "---|" * (len(names) + 1)]
    for row, (title, _) in ROWS.items():
        if row in ("memory",) or not any(l["row"] == row for l in lines): continue
        def cell(n):
            v = [cost(row, l) for l in lines if l["row"] == row and l["contender"] == n and not l["errors"] and cost(row, l)]
            return f"{st.median(v):.2f}" if v and not (n == "direct" and row != "latency") else "-"
        unit = {"latency": "p50, us", "tcp": "CPU s/GB"}.get(row, "CPU us")
        out.append(f"| {title} ({unit}) | " + " | ".join(cell(n) for n in names) + " |")
    return "\n".join(out)

def main(argv):
    P = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    P.add_argument("what", choices=("goals", "table")); P.add_argument("files", nargs="*")
    for k, d in dict(rows="", only="", out="goals.jsonl", keep="", write="", proxy_core="1", load_core="0").items(): P.add_argument("--" + k.replace("_", "-"), default=d)
    for k, d in dict(reps=10, runs=2, secs=2.0, warm=1.0, conns=0, rate=2000.0, idle=9000).items(): P.add_argument("--" + k, type=type(d), default=d)
    a = P.parse_args(argv)
    if a.what == "table": return table(a.files, a.write)
    os.sched_setaffinity(0, {int(a.load_core)})   # and with it control planes and all that is not pinned elsewhere
    a.lg = os.environ.get("BENCH_BIN_LG") or os.path.join(bench.HERE, "lg/target/release/lg")
    base = a.keep or tempfile.mkdtemp(prefix="goals-"); os.makedirs(base, exist_ok=True)
    bench.make_pki(os.path.join(base, "pki"))
    with open(a.out, "a") as out:
        for run in range(a.runs):
            stamp = f"{time.strftime('%F %T')} {run}"
            def write(line): out.write(json.dumps({"run": stamp, **line}) + "\n"); out.flush()
            for row in a.rows.split(",") if a.rows else ROWS: run_row(row, a, base, write)
    table([a.out], "")
