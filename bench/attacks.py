"""Attacks: what becomes of honest clients, of memory and of the proxy afterwards. `bench.py attacks`

  bench.py attacks [--kinds reset,slow-body] [--only heddle,haproxy] [--reps 3] [--secs 5] [--size 1] [--limit 256] [--out attacks.jsonl]
  bench.py table attacks.jsonl [--write ../docs/performance.md]

Every contender is alone on its pinned core; hostile clients (lg's `attack`), honest ones and the upstream share the other.
First each contender's capacity is measured by a closed loop; honest clients then offer half of it at a fixed rate, over
connections of their own, without an attack (`calm`), under each attack, and after it until all is as before. --size scales
the number of hostile clients and the floods' rates: 1 is 5,000 slow clients, 1,000 that never read, and the rates below.
--limit: MiB, heddle's --max-memory. An attack holds when honest clients get at least 95 % of what they offer and no less than
(within 2 %) those of HAProxy and nginx in the same run, memory stays under the limit, and all recovers by itself."""
import argparse, json, os, random, select, statistics as st, subprocess, sys, tempfile, textwrap, threading, time
import adapters, bench

# kind: (hostile clients, units a second of all together)
KINDS = {
    "ping": (16, 20000), "settings": (16, 20000), "window": (16, 20000), "unknown": (16, 20000), "priority": (16, 20000),
    "data": (16, 20000), "reset": (16, 5000), "continuation": (16, 20000), "bomb": (16, 500),
    "slow-head": (5000, 0), "slow-body": (5000, 0), "slow-read": (5000, 0), "never-read": (1000, 0),
}
HONEST = 32   # connections of honest clients
ENOUGH = 0.95

def nginx(c):
    """HTTP/2 without TLS needs a port of its own; times as Debian's defaults, which no line changes."""
    conf = adapters.NGX.format(d=c.dir, n="n", mod="") + textwrap.dedent(f"""\
        http {{ access_log off; client_body_temp_path {c.dir}/t1; proxy_temp_path {c.dir}/t2; fastcgi_temp_path {c.dir}/t3;
          uwsgi_temp_path {c.dir}/t4; scgi_temp_path {c.dir}/t5; tcp_nodelay on; keepalive_requests 1000000000;
          upstream u {{ server {c.up}; keepalive 512; keepalive_requests 1000000000; }}
          server {{ listen 127.0.0.1:{c.port} backlog=4096; listen 127.0.0.1:{c.port2} http2 backlog=4096;
            location / {{ proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host; }} }} }}
        """)
    c.h2 = c.port2
    return [[c.run("nginx"), "-p", c.dir, "-e", f"{c.dir}/e0", "-c", adapters.W(c, "n.conf", conf)]]

def haproxy(c):
    """Times as HAProxy's documentation recommends them."""
    conf = textwrap.dedent(f"""\
        global
          nbthread 1
          maxconn 9980
        defaults
          mode http
          timeout connect 5s
          timeout client 30s
          timeout server 30s
          timeout http-request 10s
          timeout http-keep-alive 60s
          http-reuse always
        listen l
          bind 127.0.0.1:{c.port} backlog 4096
          server s {c.up}
        """)
    return [[c.run("haproxy"), "-db", "-f", adapters.W(c, "h.cfg", conf)]]

def heddle(c):
    cmds = adapters.heddle(c)
    return [[*cmds[0], "--max-memory", str(c.limit)]]

CONTENDERS = {"heddle": heddle, "haproxy": haproxy, "nginx": nginx, "envoy": adapters.ALL["envoy"][0]}

class Watch:
    """The most memory of some processes, looked at ten times a second: MiB."""
    def __init__(s, pids):
        s.pids, s.most, s.end = pids, 0, threading.Event()
        s.t = threading.Thread(target=s.run, daemon=True); s.t.start()
    def run(s):
        while not s.end.wait(0.1): s.most = max(s.most, bench.pss(s.pids)[1] / 1024)
    def stop(s): s.end.set(); s.t.join(); return round(s.most, 1)

def honest(a, p, rate, secs, warm):
    """Honest clients: rate 0 is a closed loop."""
    args = ["http", "--addr", p.target, "--conns", str(HONEST), "--secs", str(secs), "--warm", str(warm), "--path", "/1k", "--core", a.proxy_core]
    args += ["--pids", ",".join(map(str, p.pids()))] + (["--rate", str(rate)] if rate else [])
    out = subprocess.run(["taskset", "-c", a.load_core, a.lg, *args], capture_output=True, text=True, timeout=120)
    return json.loads(out.stdout or json.dumps({"errors": 1, "done": 0, "rps": 0, "secs": secs, "err": out.stderr[-300:]}))

def share(r, rate, secs):
    """What honest clients got of what they offered; what came late is not counted twice."""
    return round(min(1.0, r["done"] / max(1.0, rate * secs)), 4)

def hostile(a, p, kind, secs):
    """Hostile clients, once they have all come."""
    conns, rate = KINDS[kind]
    h2 = conns == 16
    port = getattr(p.ctx, "h2", p.ctx.port) if h2 else p.ctx.port
    args = ["--addr", f"127.0.0.1:{port}", "--kind", kind, "--conns", str(max(1, round(conns * (1 if h2 else a.size)))), "--rate", str(max(1, rate * a.size)), "--secs", str(secs), "--again", str(100 if h2 else 1000)]
    h = subprocess.Popen(["taskset", "-c", a.load_core, a.attack, *args], stdout=subprocess.PIPE, text=True)
    if select.select([h.stdout], [], [], 20)[0]: h.stdout.readline()
    return h

def one(a, p, kind, rate, n, write):
    """One attack on one contender."""
    # a crowd comes within seconds; what it has done by coming is over before anything is measured
    crowd = KINDS[kind][0] > 100
    come, warm = (KINDS[kind][0] * a.size / 1000, 3.0) if crowd else (0.5, 1.0)
    watch = Watch(p.pids())
    h = hostile(a, p, kind, come + warm + a.secs + 2)
    r = honest(a, p, rate, a.secs, warm)
    try: told = json.loads(h.communicate(timeout=60)[0].strip().split("\n")[-1])
    except Exception as e: h.kill(); h.wait(); told = {"err": str(e)}
    peak, begin, recovered = watch.stop(), time.time(), None
    while time.time() - begin < 30 and recovered is None:
        after = honest(a, p, rate, 0.5, 0.2)
        if share(after, rate, 0.5) >= ENOUGH and not after["errors"]: recovered = round(time.time() - begin, 2)
    line = {"attack": kind, "contender": p.name, "round": n, "offered": round(rate, 1), "goodput": share(r, rate, a.secs), "peak_mib": peak, "limit_mib": a.limit if p.name == "heddle" else None,
            "recovered_s": recovered, "size": a.size, "hostile": told, **{k: r.get(k) for k in ("errors", "err", "p50", "p99", "core_busy")}}
    write(line)
    print(f"  {kind} round {n + 1} {p.name}: goodput {line['goodput']:.3f} of {rate:.0f}/s, p99 {r.get('p99')} us, peak {peak} MiB, recovered after {recovered} s, errors {r['errors']}", file=sys.stderr, flush=True)

def start(a, base):
    ps, port = {}, 21000
    for name, fn in CONTENDERS.items():
        port += 100
        if a.only and name not in a.only.split(","): continue
        if not os.path.exists(bench.binary(name) or "/nonexistent"): print(f"{name} is left out: no binary", file=sys.stderr); continue
        c = bench.Ctx("http", port, "127.0.0.1:18080", os.path.join(base, "pki"), base, name); c.limit = a.limit
        try: ps[name] = bench.Proc(name, fn, c, a.proxy_core)
        except Exception as e: print(f"{name} is left out, it did not start: {e}", file=sys.stderr)
    return ps

def main(argv):
    P = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    P.add_argument("what", choices=("attacks",))
    for k, d in dict(kinds="", only="", out="attacks.jsonl", keep="", proxy_core="1", load_core="0").items(): P.add_argument("--" + k.replace("_", "-"), default=d)
    for k, d in dict(reps=3, secs=5.0, size=1.0, limit=256).items(): P.add_argument("--" + k, type=type(d), default=d)
    a = P.parse_args(argv)
    os.sched_setaffinity(0, {int(a.load_core)})
    a.lg = os.environ.get("BENCH_BIN_LG") or os.path.join(bench.HERE, "lg/target/release/lg")
    a.attack = os.path.join(os.path.dirname(a.lg), "attack")
    base = a.keep or tempfile.mkdtemp(prefix="attacks-"); os.makedirs(base, exist_ok=True)
    bench.make_pki(os.path.join(base, "pki"))
    up = subprocess.Popen(["taskset", "-c", a.load_core, a.lg, "serve", "--addr", "127.0.0.1:18080"], stderr=subprocess.DEVNULL)
    ps = {}
    try:
        if not bench.wait_port(18080): sys.exit("the upstream does not start")
        ps, stamp = start(a, base), time.strftime("%F %T")
        with open(a.out, "a") as out:
            def write(line): out.write(json.dumps({"run": stamp, **line}) + "\n"); out.flush()
            half = {}
            for name, p in ps.items():
                honest(a, p, 0, 1.0, 1.0)
                half[name] = st.median(honest(a, p, 0, 2.0, 0.5)["rps"] for _ in range(3)) / 2
                if half[name] == 0: sys.exit(f"{name} answers nothing, see {base}/{name}/log")
                r = honest(a, p, half[name], a.secs, 1.0)
                write({"attack": "calm", "contender": name, "round": 0, "offered": round(half[name], 1), "goodput": share(r, half[name], a.secs), "peak_mib": round(bench.pss(p.pids())[1] / 1024, 1), "errors": r["errors"], "p50": r.get("p50"), "p99": r.get("p99")})
                print(f"  calm {name}: goodput {share(r, half[name], a.secs):.3f} of {half[name]:.0f}/s", file=sys.stderr, flush=True)
            for kind in a.kinds.split(",") if a.kinds else KINDS:
                for n in range(a.reps):
                    for name in random.sample(list(ps), len(ps)): one(a, ps[name], kind, half[name], n, write)
    finally:
        for p in ps.values(): p.stop()
        bench.end(up)
    print(table([json.loads(l) for l in open(a.out)]))

def verdict(mine, peers):
    """What an attack comes to: what fails is named."""
    wrong = []
    least = st.median(l["goodput"] for l in mine)
    if least < ENOUGH: wrong.append("goodput")
    # 2 % is what a round differs from the next by itself
    wrong += [f"less than {name}" for name, lines in peers.items() if lines and least < min(1.0, st.median(l["goodput"] for l in lines)) - 0.02]
    if any(l["limit_mib"] and l["peak_mib"] >= l["limit_mib"] for l in mine): wrong.append("memory")
    if any(l["recovered_s"] is None for l in mine): wrong.append("does not recover")
    return "holds" if not wrong else "missed: " + ", ".join(wrong)

def table(lines):
    names = [n for n in CONTENDERS if any(l["contender"] == n for l in lines)]
    out = ["| attack | " + " | ".join(names) + " | heddle: most MiB of limit | p99 ms | recovered s | verdict |", "|" + "---|" * (len(names) + 5)]
    cell = lambda ls: f"{100 * st.median(l['goodput'] for l in ls):.1f} %" if ls else "-"
    for kind in ["calm", *KINDS]:
        by = {n: [l for l in lines if l["attack"] == kind and l["contender"] == n] for n in names}
        mine = by.get("heddle", [])
        if not any(by.values()): continue
        more = ["-"] * 4
        if mine and kind != "calm":
            back = [l["recovered_s"] for l in mine]
            more = [f"{max(l['peak_mib'] for l in mine):.0f} of {mine[0]['limit_mib']}", f"{st.median(l['p99'] or 0 for l in mine) / 1000:.1f}", "never" if None in back else f"{max(back):.1f}",
                    verdict(mine, {n: by[n] for n in ("haproxy", "nginx") if n in by})]
        out.append(f"| {kind} | " + " | ".join(cell(by[n]) for n in names) + " | " + " | ".join(more) + " |")
    return "\n".join(out)
