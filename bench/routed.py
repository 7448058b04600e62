"""Contenders with a table of routes (load.py) instead of one: what an operator who knows the proxy would write for it.

HAProxy: maps, so that exact paths and prefixes are looked up in trees, and expressions only for the hosts and paths that have
any. nginx: locations, of which it makes a tree, and maps for the header. Envoy: the list of routes, as every control plane
writes it. heddle: VirtualServices. Each function is as those of adapters.py; the context has table, clusters and port_up too."""
import json, os, textwrap
import load
from adapters import NGX, T, W

def hosts(c): return sorted({r["host"] for r in c.table})
def of(c, host, kind): return [r for r in c.table if r["host"] == host and r["kind"] == kind]
def upstream(c, cluster): return f"{load.address(cluster)}:{c.port_up}"

def haproxy(c):
    every = c.table
    line = lambda rows: "".join(f"{k} c{v}\n" for k, v in rows)
    W(c, "exact.map", line((r["host"] + r["path"], r["cluster"]) for r in every if r["kind"] == "exact"))
    W(c, "prefix.map", line((r["host"] + r["path"], r["cluster"]) for r in every if r["kind"] == "prefix"))
    W(c, "tenant.map", line(("|".join((r["host"], r["tenant"], r["env"])), r["cluster"]) for r in every if r["kind"] == "header"))
    # the fewer rules the better: one look at each map, and only for the paths that have any
    rules = [f"http-request set-var(txn.to) base,map_str({c.dir}/exact.map)"]
    if any(r["kind"] == "header" for r in every):
        rules += ["acl tenant path_beg /tenant/", "http-request set-var-fmt(txn.key) %[req.hdr(host)]|%[req.hdr(x-tenant)]|%[req.hdr(x-env)] if tenant",
                  f"http-request set-var(txn.to) var(txn.key),map_beg({c.dir}/tenant.map) if tenant"]
    if any(r["kind"] == "regex" for r in every):
        W(c, "regex.map", line((f"^{r['host']}{r['path']}$".replace(".bench.test", "\\.bench\\.test"), r["cluster"]) for r in every if r["kind"] == "regex"))
        rules.append(f"http-request set-var(txn.to) base,map_reg({c.dir}/regex.map) if {{ path_beg /orders- }}")
    rules.append(f"http-request set-var(txn.to) base,map_beg({c.dir}/prefix.map) if !{{ var(txn.to) -m found }}")
    cfg = textwrap.dedent("""\
        global
          nbthread 1
          maxconn 9980
        defaults
          mode http
          timeout client 1h
          timeout server 1h
          timeout connect 5s
          timeout http-keep-alive 1h
          option forwardfor
          http-reuse always
        frontend f
          bind 127.0.0.1:%d
        """) % c.port
    cfg += "".join(f"  {r}\n" for r in rules) + "  use_backend %[var(txn.to)]\n"
    cfg += "".join(f"backend c{k}\n  server s {upstream(c, k)}\n" for k in range(c.clusters))
    return [[c.run("haproxy"), "-db", "-f", W(c, "h.cfg", cfg)]]

def nginx(c):
    head = """proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;"""
    maps = "".join(f' "{r["host"]}|{r["tenant"]}|{r["env"]}" c{r["cluster"]};\n' for r in c.table if r["kind"] == "header" and r["env"])
    bare = "".join(f' "{r["host"]}|{r["tenant"]}" c{r["cluster"]};\n' for r in c.table if r["kind"] == "header" and not r["env"])
    rest = {h: next(r["cluster"] for r in reversed(of(c, h, "prefix")) if r["path"] == "/") for h in hosts(c)}
    rest = "".join(f' "{h}" c{k};\n' for h, k in rest.items())
    out = f"""http {{ access_log off; keepalive_timeout 3600s; keepalive_requests 1000000000; tcp_nodelay on; client_body_temp_path {c.dir}/t1; proxy_temp_path {c.dir}/t2;
 fastcgi_temp_path {c.dir}/t3; uwsgi_temp_path {c.dir}/t4; scgi_temp_path {c.dir}/t5; map_hash_max_size 65536; map_hash_bucket_size 256; server_names_hash_bucket_size 128; {head}
 map $host $rest {{ default c0;\n{rest} }}
 map "$host|$http_x_tenant" $bare {{ default $rest;\n{bare} }}
 map "$host|$http_x_tenant|$http_x_env" $tenant {{ default $bare;\n{maps} }}
"""
    keep = max(2, 128 // max(1, c.clusters // 50))
    out += "".join(f" upstream c{k} {{ server {upstream(c, k)}; keepalive {keep}; keepalive_requests 1000000000; keepalive_timeout 3600s; }}\n" for k in range(c.clusters))
    for h in hosts(c):
        out += f" server {{ listen 127.0.0.1:{c.port}; server_name {h};\n"
        for r in c.table:
            if r["host"] != h: continue
            to = f"{{ proxy_pass http://c{r['cluster']}; }}\n"
            if r["kind"] == "exact": out += f"  location = {r['path']} {to}"
            if r["kind"] == "prefix": out += f"  location {r['path']} {to}"
            if r["kind"] == "regex": out += f"  location ~ \"^{r['path']}$\" {to}"
        if of(c, h, "header"): out += "  location /tenant/ { proxy_pass http://$tenant; }\n"
        out += " }\n"
    return [[c.run("nginx"), "-p", c.dir, "-e", f"{c.dir}/n.err0", "-c", W(c, "n.conf", NGX.format(d=c.dir, n="n", mod="") + out + "}\n")]]

def envoy(c):
    def sock(a): h, p = a.rsplit(":", 1); return {"socket_address": {"address": h, "port_value": int(p)}}
    def route(r):
        m = {"exact": {"path": r["path"]}, "regex": {"safe_regex": {"regex": r["path"]}}}.get(r["kind"], {"prefix": r["path"]})
        heads = [{"name": n, "string_match": {"exact": v}} for n, v in (("x-tenant", r["tenant"]), ("x-env", r["env"])) if v]
        return {"match": {**m, **({"headers": heads} if heads else {})}, "route": {"cluster": f"c{r['cluster']}", "timeout": "0s"}}
    vhosts = [{"name": h, "domains": [h], "routes": [route(r) for r in c.table if r["host"] == h]} for h in hosts(c)]
    def cluster(k):
        return {"name": f"c{k}", "type": "STATIC", "connect_timeout": "5s", "load_assignment": {"cluster_name": f"c{k}", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": sock(upstream(c, k))}}]}]},
                "circuit_breakers": {"thresholds": [{"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000}]}}
    hcm = {"name": "envoy.filters.network.http_connection_manager", "typed_config": {"@type": T + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "h", "codec_type": "AUTO",
           "route_config": {"virtual_hosts": vhosts}, "use_remote_address": True, "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": T + "extensions.filters.http.router.v3.Router"}}]}}
    cfg = {"static_resources": {"listeners": [{"name": "l", "address": sock(f"127.0.0.1:{c.port}"), "filter_chains": [{"filters": [hcm]}]}], "clusters": [cluster(k) for k in range(c.clusters)]},
           "layered_runtime": {"layers": [{"name": "s", "static_layer": {"overload.global_downstream_max_connections": 100000}}]}}
    return [[c.run("envoy"), "-c", W(c, "e.json", json.dumps(cfg)), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]]

def heddle(c, more=(), endpoints=1, flags=()):
    """A control plane (not counted) and a sidecar whose outbound side routes by Host; metrics are read at ctx.metrics.
    `more`: further resources; `flags`: further flags of the control plane; `endpoints`: of each service (they all lead to the same place)."""
    def entry(name, host, at):
        return {"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": name, "namespace": "default"},
                "spec": {"hosts": [host], "location": "MESH_EXTERNAL", "resolution": "STATIC", "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                         "endpoints": [{"address": a, "ports": {"http": c.port_up}} for a in at]}}
    def rule(r):
        uri = {"exact": {"exact": r["path"]}, "regex": {"regex": r["path"]}}.get(r["kind"], {"prefix": r["path"]})
        heads = {n: {"exact": v} for n, v in (("x-tenant", r["tenant"]), ("x-env", r["env"])) if v}
        return {"match": [{"uri": uri, **({"headers": heads} if heads else {})}], "route": [{"destination": {"host": f"c{r['cluster']}.bench.test"}}]}
    def all_of(k): return [load.address(k)] if endpoints == 1 else [f"127.{2 + n // 60000}.{n // 250 % 240}.{1 + n % 250}" for n in range(endpoints)]
    docs = [entry(f"c{k}", f"c{k}.bench.test", all_of(k)) for k in range(c.clusters)]
    for n, h in enumerate(hosts(c)):
        docs.append(entry(f"shop-{n}", h, [load.address(0)]))
        docs.append({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": f"shop-{n}", "namespace": "default"},
                     "spec": {"hosts": [h], "http": [rule(r) for r in c.table if r["host"] == h]}})
    d = os.path.join(c.dir, "config"); os.makedirs(d, exist_ok=True)
    open(os.path.join(d, "bench.yaml"), "w").write("\n---\n".join(json.dumps(x) for x in [*docs, *more]))
    b, x = c.run("heddle"), f"127.0.0.1:{c.port + 50}"
    c.metrics = f"127.0.0.1:{c.port + 54}"
    c.helpers = [[b, "control", "--store", "memory", "--config", d, "--data-dir", c.dir + "/control", "--xds", x, "--api", f"127.0.0.1:{c.port+52}", *flags]]
    return [[b, "proxy", "--xds", "http://" + x, "--role", "sidecar", "--namespace", "default", "--workers", "1", "--data-dir", c.dir + "/proxy", "--admin", c.metrics, "--dns", f"127.0.0.1:{c.port+53}",
             "--outbound", f"127.0.0.1:{c.port}", "--inbound", f"127.0.0.1:{c.port+55}"]]

def floor(c): return [[c.run("relay"), f"127.0.0.1:{c.port}", upstream(c, 0)]]
