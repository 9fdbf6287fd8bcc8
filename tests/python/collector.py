"""An OTLP collector that shares no code with dual16: prints every span it gets as a line of JSON.

usage: collector.py [CERTIFICATE.pem KEY.pem]

The first line is the address it listens on. It ends on SIGTERM, after the calls it has accepted.
"""

import concurrent.futures
import json
import pathlib
import signal
import sys

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

GRACE = 10  # seconds for calls under way when it ends


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def Export(self, request, context):
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    line = json.dumps(told(resource.resource, scope.scope, span))
                    print(line, flush=True)
        return trace_service_pb2.ExportTraceServiceResponse()


def told(resource, scope, span) -> dict:
    """All that a span carries, so that a test can look for what it must not carry."""
    return {
        "resource": values(resource.attributes),
        "scope": scope.name,
        "name": span.name,
        "kind": trace_pb2.Span.SpanKind.Name(span.kind),
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_id": span.parent_span_id.hex(),
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "attributes": values(span.attributes),
        "events": [{"name": event.name, "attributes": values(event.attributes)} for event in span.events],
        "links": len(span.links),
        "status": {"code": span.status.code, "message": span.status.message},
    }


def values(attributes) -> dict:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def main() -> None:
    # One at a time: two would write into each other's lines.
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Collector(), server)
    if len(sys.argv) > 1:
        certificate, key = (pathlib.Path(path).read_bytes() for path in sys.argv[1:])
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    signal.signal(signal.SIGTERM, lambda *_: server.stop(GRACE))
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
