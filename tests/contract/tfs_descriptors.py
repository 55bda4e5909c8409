"""Takes the TensorFlow Serving API's descriptors out of the `tensorflow-serving-api` package, as our server ships them.

Run it (`python tests/contract/tfs_descriptors.py`) after the package was updated in the requirements; it writes
`serving/atalaya_serving/tfs/descriptors.binpb`. `test_tfs_descriptors.py` holds the two against each other.
"""

from pathlib import Path

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

SHIPPED = Path(__file__).parents[2] / "serving" / "atalaya_serving" / "tfs" / "descriptors.binpb"


def upstream() -> bytes:
    """A FileDescriptorSet of the API and all it imports, dependencies first."""
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2

    files: dict[str, FileDescriptor] = {}
    for module in (prediction_service_pb2, model_service_pb2, saved_model_pb2):
        _gather(module.DESCRIPTOR, files)
    return FileDescriptorSet(file=[_proto(file) for file in files.values()]).SerializeToString(deterministic=True)


def _gather(file: FileDescriptor, into: dict[str, FileDescriptor]) -> None:
    for dependency in file.dependencies:
        _gather(dependency, into)
    into[file.name] = file


def _proto(file: FileDescriptor) -> FileDescriptorProto:
    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    return proto


if __name__ == "__main__":
    SHIPPED.write_bytes(upstream())
    print(f"{SHIPPED}: {SHIPPED.stat().st_size} bytes")
