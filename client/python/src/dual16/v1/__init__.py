"""The messages of the API, `dual16.v1` and what the client reads beside it, as classes of protobuf.

Their types are in `__init__.pyi`. `api.binpb` is made by `generate.py` from the protos.
"""

from importlib.resources import files

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    empty_pb2,  # noqa: F401  (the descriptors refer to it)
    message_factory,
    timestamp_pb2,  # noqa: F401
)

_POOL = descriptor_pool.Default()
_SET = descriptor_pb2.FileDescriptorSet.FromString(files(__name__).joinpath("api.binpb").read_bytes())
for _file in _SET.file:
    _POOL.AddSerializedFile(_file.SerializeToString())
for _file in _SET.file:
    for _message in _file.message_type:
        _name = f"{_file.package}.{_message.name}"
        globals()[_message.name] = message_factory.GetMessageClass(_POOL.FindMessageTypeByName(_name))
del _file, _message, _name
