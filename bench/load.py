"""The load of the goals: routes of all kinds, and the requests that are drawn over them. Seeded: the same numbers give the
same load on every machine.

A route is {"host", "kind", "path", "tenant", "env", "cluster"}; kinds: exact (the path), prefix (all below the path), regex (the
whole path), header (all below the path with header x-tenant, and x-env where given). Routes of one host do not overlap, so
that maps, trees and lists of routes all mean the same; the last route of each host takes what is left."""
import bisect, json, random

KINDS = ("exact", "exact", "exact", "exact", "prefix", "prefix", "prefix", "regex", "header", "header")

def routes(count=1000, clusters=50, hosts=10, seed=1):
    """count routes over some hosts: 40 % exact, 30 % prefix, 10 % regex, 20 % header. One route: everything of one host."""
    rng = random.Random(seed)
    hosts = max(1, min(hosts, count // 50))
    out = []
    for n in range(count - hosts):
        kind = KINDS[n % len(KINDS)]
        r = {"host": host((n // len(KINDS)) % hosts), "kind": kind, "path": "", "tenant": "", "env": "", "cluster": rng.randrange(clusters)}
        word = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(6))
        if kind == "exact": r["path"] = f"/api/v{n % 3}/{word}-{n}/items"
        elif kind == "prefix": r["path"] = f"/{word}-{n}/"
        elif kind == "regex": r["path"] = f"/orders-{n}/[0-9]+/(lines|notes)"
        else: r.update(path="/tenant/", tenant=f"{word}{n}", env="prod" if n % 2 else "")
        out.append(r)
    rng.shuffle(out)
    return out + [{"host": host(h), "kind": "prefix", "path": "/", "tenant": "", "env": "", "cluster": rng.randrange(clusters)} for h in range(hosts)]

def host(n): return f"shop-{n}.bench.test"

def requests(table, count=10000, seed=2):
    """count combinations of host, path and two headers with the cluster that each must reach."""
    rng = random.Random(seed)
    out = []
    for n in range(count):
        r = table[n % len(table)]
        tenant, env = f"guest{rng.randrange(1000)}", rng.choice(("test", "stage"))
        if r["kind"] == "exact": path = r["path"]
        elif r["kind"] == "regex": path = r["path"].replace("[0-9]+", str(rng.randrange(10**6))).replace("(lines|notes)", rng.choice(("lines", "notes")))
        elif r["kind"] == "header": path, tenant, env = f"/tenant/{rng.randrange(10**6)}", r["tenant"], r["env"] or env
        else: path = f"{r['path']}{rng.randrange(10**6)}/{'x' * rng.randrange(1, 24)}"
        out.append((r["host"], path, tenant, env, r["cluster"]))
    rng.shuffle(out)
    return out

def weights(count, s=1.0):
    """Cumulative shares of a Zipf distribution."""
    out, total = [], 0.0
    for k in range(1, count + 1): total += 1 / k**s; out.append(total)
    return [x / total for x in out]

def draws(count, among, seed=3):
    rng, cumulated = random.Random(seed), weights(among)
    return [bisect.bisect_left(cumulated, rng.random()) for _ in range(count)]

def address(cluster):
    """Where a cluster's only endpoint listens: one upstream takes them all and tells them apart by the address called."""
    return f"127.1.{cluster // 250}.{1 + cluster % 250}"

def write(path, table, count=10000, seed=2):
    """The load generator's file: host, path, the two headers, cluster; tabs between; most frequent first."""
    with open(path, "w") as f:
        for r in requests(table, count, seed): f.write("\t".join(map(str, r)) + "\n")

if __name__ == "__main__":
    import sys
    json.dump(routes(int(sys.argv[1]) if len(sys.argv) > 1 else 1000), sys.stdout, indent=0)
