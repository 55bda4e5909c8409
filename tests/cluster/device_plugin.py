"""A device plugin for the tests: advertises accelerators that are not there to the real kubelet, and hands them out.

Kubernetes' device plugin API v1beta1 over gRPC on a unix socket, as the vendors' plugins speak it. What a container is
given is an environment variable with the device's name. A plain script, run where the kubelet runs:
`device_plugin.py RESOURCE COUNT`; it ends when the kubelet forgets it.
"""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

FOLDER = Path("/var/lib/kubelet/device-plugins")
VARIABLE = "ATALAYA_TEST_DEVICE"
_TEXT, _PART = FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_MESSAGE
# Of api.proto the messages and fields that are used: name, number, type of a message, whether repeated.
_MESSAGES: dict[str, tuple[tuple[str, int, str, bool], ...]] = {
    "Empty": (),
    "DevicePluginOptions": (),
    "RegisterRequest": (("version", 1, "", False), ("endpoint", 2, "", False), ("resource_name", 3, "", False)),
    "Device": (("ID", 1, "", False), ("health", 2, "", False)),
    "ListAndWatchResponse": (("devices", 1, "Device", True),),
    "ContainerAllocateRequest": (("devices_ids", 1, "", True),),
    "AllocateRequest": (("container_requests", 1, "ContainerAllocateRequest", True),),
    "Variable": (("key", 1, "", False), ("value", 2, "", False)),  # on the wire what a map's entry is
    "ContainerAllocateResponse": (("envs", 1, "Variable", True),),
    "AllocateResponse": (("container_responses", 1, "ContainerAllocateResponse", True),),
}


def _classes() -> dict[str, Any]:
    file = FileDescriptorProto(name="deviceplugin.proto", package="v1beta1", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = DescriptorProto(name=name)
        for field, number, part, is_repeated in fields:
            label = FieldDescriptorProto.LABEL_REPEATED if is_repeated else FieldDescriptorProto.LABEL_OPTIONAL
            kind = {"type": _PART, "type_name": f".v1beta1.{part}"} if part else {"type": _TEXT}
            message.field.append(FieldDescriptorProto(name=field, number=number, label=label, **kind))
        file.message_type.append(message)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)  # type: ignore[no-untyped-call]
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"v1beta1.{name}"))  # type: ignore[no-untyped-call]
        for name in _MESSAGES
    }


API = _classes()


class Plugin:
    """The calls that the kubelet makes."""

    def __init__(self, resource: str, count: int) -> None:
        self.resource, self.names = resource, [f"device-{number}" for number in range(count)]

    def options(self, request: Any, context: Any) -> Any:
        return API["DevicePluginOptions"]()

    def list_and_watch(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        """All of them, once; they stay healthy as long as the stream is open."""
        yield API["ListAndWatchResponse"](devices=[API["Device"](ID=name, health="Healthy") for name in self.names])
        while context.is_active():
            time.sleep(0.2)

    def allocate(self, request: Any, context: Any) -> Any:
        answers = [
            API["ContainerAllocateResponse"](envs=[API["Variable"](key=VARIABLE, value=",".join(one.devices_ids))])
            for one in request.container_requests
        ]
        return API["AllocateResponse"](container_responses=answers)

    def handler(self) -> Any:
        def unary(call: Any, request: str) -> Any:
            read, write = API[request].FromString, _bytes
            return grpc.unary_unary_rpc_method_handler(call, read, write)

        return grpc.method_handlers_generic_handler(
            "v1beta1.DevicePlugin",
            {
                "GetDevicePluginOptions": unary(self.options, "Empty"),
                "ListAndWatch": grpc.unary_stream_rpc_method_handler(
                    self.list_and_watch, API["Empty"].FromString, _bytes
                ),
                "Allocate": unary(self.allocate, "AllocateRequest"),
            },
        )


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString())


def _register(resource: str, endpoint: str) -> None:
    request = API["RegisterRequest"](version="v1beta1", endpoint=endpoint, resource_name=resource)
    with grpc.insecure_channel(f"unix://{FOLDER / 'kubelet.sock'}") as channel:
        register = channel.unary_unary("/v1beta1.Registration/Register", _bytes, API["Empty"].FromString)
        register(request, timeout=10, wait_for_ready=True)


def main(resource: str, count: int) -> None:
    endpoint = f"{resource.replace('/', '-')}.sock"
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Plugin(resource, count).handler(),))
    server.add_insecure_port(f"unix://{FOLDER / endpoint}")
    server.start()
    _register(resource, endpoint)
    print(f"{count} {resource} are offered", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
