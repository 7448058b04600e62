"""A gRPC backend or a gRPC client without generated code.

  grpc_peer.py serve NAME [PORT]          prints its port, answers every call with NAME
  grpc_peer.py serve-xds NAME PORT        the same, configured by xDS (GRPC_XDS_BOOTSTRAP)
  grpc_peer.py call                       reads commands, one JSON object a line, from stdin:
      {"target": "xds:///say:7070", "calls": 100, "metadata": {"k": "v"}, "timeout": 5, "wait": true}
                                          and prints {"answers": {NAME: count, "error CODE: text": count}}
"""
import collections
import json
import sys
import threading
from concurrent import futures

import grpc

METHOD = "/say.Say/Hello"


class Handler(grpc.GenericRpcHandler):
    def __init__(self, name):
        self.name = name.encode()

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: self.name)


def serve(name, port, xds):
    server = grpc.server(futures.ThreadPoolExecutor(4), xds=xds)
    server.add_generic_rpc_handlers((Handler(name),))
    address = f"0.0.0.0:{port}" if xds else f"127.0.0.1:{port}"
    if xds:
        credentials = grpc.xds_server_credentials(grpc.insecure_server_credentials())
        port = server.add_secure_port(address, credentials) or port
    else:
        port = server.add_insecure_port(address)
    server.start()
    print(port, flush=True)
    threading.Event().wait()


def call():
    channels = {}
    for line in sys.stdin:
        command = json.loads(line)
        target = command["target"]
        if target not in channels:
            channels[target] = grpc.insecure_channel(target)
        hello = channels[target].unary_unary(METHOD)
        metadata = tuple(command.get("metadata", {}).items())
        answers = collections.Counter()
        for _ in range(command.get("calls", 1)):
            try:
                answer = hello(b"", timeout=command.get("timeout", 10), metadata=metadata,
                               wait_for_ready=command.get("wait", False))
                answers[answer.decode()] += 1
            except grpc.RpcError as error:
                answers[f"error {error.code().name}: {error.details()}"] += 1
                if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                    break  # nothing answers: do not wait for each call
        print(json.dumps({"answers": answers}), flush=True)


if sys.argv[1] == "call":
    call()
else:
    serve(sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0, sys.argv[1] == "serve-xds")
