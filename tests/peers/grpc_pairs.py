"""A gRPC server with every kind of call, and a client of it through pairs of versions.

  grpc_pairs.py serve CERTIFICATE KEY   prints a port in the clear and one over TLS; ends with its input
  grpc_pairs.py call CA                 reads pairs, one JSON object a line, and prints `pass NAME` for each
"""
import collections
import json
import sys
import threading
import time
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

LARGE = (bytes(range(251)) * 33_500)[:8_388_617]
SIZES = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
SERVICE = "pairing.Echo"


class Calls(grpc.GenericRpcHandler):
    """The calls of the service, by name. `ended` counts hanging calls by their key that have ended."""

    def __init__(self):
        self.ended = collections.Counter()
        self.left = {}

    def service(self, details):
        service, _, name = details.method.lstrip("/").partition("/")
        make = {
            "Unary": lambda: grpc.unary_unary_rpc_method_handler(self.unary),
            "Down": lambda: grpc.unary_stream_rpc_method_handler(self.down),
            "Up": lambda: grpc.stream_unary_rpc_method_handler(self.up),
            "Both": lambda: grpc.stream_stream_rpc_method_handler(self.both),
            "Hang": lambda: grpc.unary_stream_rpc_method_handler(self.hang),
            "Ended": lambda: grpc.unary_unary_rpc_method_handler(self.told),
            "Fail": lambda: grpc.unary_unary_rpc_method_handler(self.fail),
        }.get(name)
        return make() if service == SERVICE and make else None

    def unary(self, request, context):
        sent = dict(context.invocation_metadata())
        context.send_initial_metadata((("x-initial", sent.get("x-mine", "")), ("x-back-bin", sent.get("x-mine-bin", b""))))
        context.set_trailing_metadata((("x-trailing", "t"), ("x-trailing-bin", b"\x00\xff")))
        return request

    def down(self, request, context):
        for number in range(int(request)):
            yield b"%d" % number

    def up(self, requests, context):
        return b"%d" % sum(len(request) for request in requests)

    def both(self, requests, context):
        for request in requests:
            yield b"re " + request

    def hang(self, request, context):
        ended = threading.Event()

        def end():
            self.ended[request] += 1
            ended.set()

        # Counted here: a generator whose call ends while it yields is not resumed.
        context.add_callback(end)
        self.left[request] = context.time_remaining()
        yield b"here"
        ended.wait(60)

    def told(self, request, context):
        return json.dumps([self.ended[request], self.left.get(request)]).encode()

    def fail(self, request, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not so: 100% ä")


def serve(certificate, key):
    server = grpc.server(futures.ThreadPoolExecutor(32), options=SIZES)
    server.add_generic_rpc_handlers((Calls(),))
    checks = health.HealthServicer()
    checks.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
    checks.set("pairing.Gone", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    pair = (open(key, "rb").read(), open(certificate, "rb").read())
    ports = [server.add_insecure_port("127.0.0.1:0"),
             server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials((pair,)))]
    server.start()
    print(*ports, sep="\n", flush=True)
    sys.stdin.read()
    server.stop(0)


def want(what, found, wanted):
    if found != wanted:
        raise AssertionError(f"{what}: {found!r:.300}, not {wanted!r:.300}")


def failure(what, call, code):
    """What a call that has to fail fails with."""
    try:
        call()
    except grpc.RpcError as error:
        want(what, error.code(), code)
        return error
    raise AssertionError(f"{what}: it succeeded")


def simple(channel):
    unary = channel.unary_unary(f"/{SERVICE}/Unary")
    mine = (("x-mine", "m"), ("x-mine-bin", b"\x01\xfe\x00"))
    answer, call = unary.with_call(b"hello", timeout=20, metadata=mine)
    want("unary", answer, b"hello")
    initial, trailing = dict(call.initial_metadata()), dict(call.trailing_metadata())
    want("metadata", (initial["x-initial"], initial["x-back-bin"]), ("m", b"\x01\xfe\x00"))
    want("trailing metadata", (trailing["x-trailing"], trailing["x-trailing-bin"]), ("t", b"\x00\xff"))
    want("an empty message", unary(b"", timeout=20), b"")
    want("a large message", unary(LARGE, timeout=40) == LARGE, True)
    several = [unary.future(b"%d" % n, timeout=20) for n in range(50)]
    want("many at once", [call.result() for call in several], [b"%d" % n for n in range(50)])
    fail = channel.unary_unary(f"/{SERVICE}/Fail")
    error = failure("a status", lambda: fail(b"", timeout=20), grpc.StatusCode.FAILED_PRECONDITION)
    want("its text", error.details(), "not so: 100% ä")
    nothing = channel.unary_unary(f"/{SERVICE}/Nothing")
    failure("no such call", lambda: nothing(b"", timeout=20), grpc.StatusCode.UNIMPLEMENTED)


def streams(channel):
    down = channel.unary_stream(f"/{SERVICE}/Down")(b"1000", timeout=20)
    want("server streaming", list(down), [b"%d" % number for number in range(1000)])
    up = channel.stream_unary(f"/{SERVICE}/Up")
    want("client streaming", up((b"x" * 1000 for _ in range(1000)), timeout=20), b"1000000")
    want("an empty stream", up(iter(()), timeout=20), b"0")
    # Each answer is waited for before the next question is asked: nothing may be held back.
    asked, heard = threading.Semaphore(1), []

    def questions():
        for number in range(100):
            asked.acquire()
            yield b"%d" % number

    for answer in channel.stream_stream(f"/{SERVICE}/Both")(questions(), timeout=20):
        heard.append(answer)
        asked.release()
    want("bidirectional streaming", heard, [b"re %d" % number for number in range(100)])


def endings(channel, key):
    hang = channel.unary_stream(f"/{SERVICE}/Hang")
    ended = channel.unary_unary(f"/{SERVICE}/Ended")

    def hears(what, key):
        until = time.monotonic() + 15
        while time.monotonic() < until:
            count, left = json.loads(ended(key, timeout=20))
            if count == 1:
                return left
        raise AssertionError(f"{what}: the server did not hear of it")

    call = hang(key + b" deadline", timeout=0.7)
    want("an answer before the deadline", next(call), b"here")
    failure("a deadline", lambda: next(call), grpc.StatusCode.DEADLINE_EXCEEDED)
    left = hears("a deadline", key + b" deadline")
    want("the deadline is passed on", left is not None and 0 < left < 1, True)
    call = hang(key + b" cancelled", timeout=30)
    want("an answer before the end", next(call), b"here")
    call.cancel()
    want("a cancellation", call.code(), grpc.StatusCode.CANCELLED)
    hears("a cancellation", key + b" cancelled")


def services(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    check = lambda name: stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=20)
    want("health", check(SERVICE).status, health_pb2.HealthCheckResponse.SERVING)
    want("bad health", check("pairing.Gone").status, health_pb2.HealthCheckResponse.NOT_SERVING)
    failure("no health", lambda: check("nobody"), grpc.StatusCode.NOT_FOUND)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=20)
    want("watched health", next(watch).status, health_pb2.HealthCheckResponse.SERVING)
    watch.cancel()
    known = ProtoReflectionDescriptorDatabase(channel)
    want("reflection", sorted(known.get_services()),
         sorted((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)))
    file = known.FindFileContainingSymbol("grpc.health.v1.Health")
    want("a reflected file", file.package, "grpc.health.v1")


def main(ca):
    trust = grpc.ssl_channel_credentials(open(ca, "rb").read())
    for number, line in enumerate(sys.stdin):
        pair = json.loads(line)
        # No subchannel of another pair may be used.
        options = SIZES + [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        channel = (grpc.secure_channel(pair["at"], trust, options) if pair["tls"]
                   else grpc.insecure_channel(pair["at"], options))
        try:
            with channel:
                simple(channel)
                streams(channel)
                endings(channel, b"%d" % number)
                services(channel)
            print("pass", pair["name"], flush=True)
        except Exception as error:
            print("FAIL", pair["name"], repr(error), flush=True)


if sys.argv[1] == "serve":
    serve(*sys.argv[2:4])
else:
    main(sys.argv[2])
