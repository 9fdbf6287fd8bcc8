"""A client that knows nothing but gRPC reflection: prints every service and its methods as JSON.

usage: reflect.py HOST:PORT

grpcio-reflection still speaks v1alpha; v1 has the same messages under another service name.
"""

import json
import sys

import grpc
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2 as messages

METHOD = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
TIMEOUT = 60  # seconds for each call


def main() -> None:
    with grpc.insecure_channel(sys.argv[1]) as channel:
        call = channel.stream_stream(
            METHOD,
            request_serializer=messages.ServerReflectionRequest.SerializeToString,
            response_deserializer=messages.ServerReflectionResponse.FromString,
        )

        def ask(**question) -> messages.ServerReflectionResponse:
            request = messages.ServerReflectionRequest(**question)
            return next(iter(call(iter([request]), timeout=TIMEOUT)))

        names = [service.name for service in ask(list_services="").list_services_response.service]
        print(json.dumps({name: methods_of(ask(file_containing_symbol=name), name) for name in names}))


def methods_of(answer: messages.ServerReflectionResponse, service_name: str) -> list[str]:
    for encoded in answer.file_descriptor_response.file_descriptor_proto:
        file = descriptor_pb2.FileDescriptorProto.FromString(encoded)
        for service in file.service:
            if f"{file.package}.{service.name}" == service_name:
                return [method.name for method in service.method]
    sys.exit(f"reflection lists {service_name} but does not describe it")


if __name__ == "__main__":
    main()
