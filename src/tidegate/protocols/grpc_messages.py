"""The messages of ``inference.GRPCInferenceService`` and ``grpc.health.v1.Health``, as a table of fields.

Names and numbers are those of open_inference_grpc.proto, Triton's grpc_service.proto and health.proto. The classes live in a
pool of their own, so that a client's generated ``inference`` package can be imported into the same process.
"""

from __future__ import annotations

import functools
from typing import Any

PACKAGE = "inference"

_NAME_AND_VERSION = "name:string=1 version:string=2"
_TENSOR = "name:string=1 datatype:string=2 shape:*int64=3"
_REPOSITORY_MODEL = "repository_name:string=1 model_name:string=2 parameters:%ModelRepositoryParameter=3"

MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live:bool=1",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready:bool=1",
    "ModelReadyRequest": _NAME_AND_VERSION,
    "ModelReadyResponse": "ready:bool=1",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name:string=1 version:string=2 extensions:*string=3",
    "ModelMetadataRequest": _NAME_AND_VERSION,
    "TensorMetadata": _TENSOR,
    "ModelMetadataResponse": (
        "name:string=1 versions:*string=2 platform:string=3 inputs:*TensorMetadata=4 outputs:*TensorMetadata=5"
    ),
    "InferParameter": (
        "bool_param:?bool=1 int64_param:?int64=2 string_param:?string=3 double_param:?double=4 uint64_param:?uint64=5"
    ),
    "InferTensorContents": (
        "bool_contents:*bool=1 int_contents:*int32=2 int64_contents:*int64=3 uint_contents:*uint32=4 "
        "uint64_contents:*uint64=5 fp32_contents:*float=6 fp64_contents:*double=7 bytes_contents:*bytes=8"
    ),
    "InferInputTensor": f"{_TENSOR} parameters:%InferParameter=4 contents:InferTensorContents=5",
    "InferRequestedOutputTensor": "name:string=1 parameters:%InferParameter=2",
    "ModelInferRequest": (
        "model_name:string=1 model_version:string=2 id:string=3 parameters:%InferParameter=4 "
        "inputs:*InferInputTensor=5 outputs:*InferRequestedOutputTensor=6 raw_input_contents:*bytes=7"
    ),
    "InferOutputTensor": f"{_TENSOR} parameters:%InferParameter=4 contents:InferTensorContents=5",
    "ModelInferResponse": (
        "model_name:string=1 model_version:string=2 id:string=3 parameters:%InferParameter=4 "
        "outputs:*InferOutputTensor=5 raw_output_contents:*bytes=6"
    ),
    "ModelStatisticsRequest": _NAME_AND_VERSION,
    "StatisticDuration": "count:uint64=1 ns:uint64=2",
    "InferStatistics": (
        "success:StatisticDuration=1 fail:StatisticDuration=2 queue:StatisticDuration=3 "
        "compute_input:StatisticDuration=4 compute_infer:StatisticDuration=5 compute_output:StatisticDuration=6"
    ),
    "InferBatchStatistics": (
        "batch_size:uint64=1 compute_input:StatisticDuration=2 compute_infer:StatisticDuration=3 "
        "compute_output:StatisticDuration=4"
    ),
    "ModelStatistics": (
        "name:string=1 version:string=2 last_inference:uint64=3 inference_count:uint64=4 execution_count:uint64=5 "
        "inference_stats:InferStatistics=6 batch_stats:*InferBatchStatistics=7"
    ),
    "ModelStatisticsResponse": "model_stats:*ModelStatistics=1",
    "ModelRepositoryParameter": "bool_param:?bool=1 int64_param:?int64=2 string_param:?string=3 bytes_param:?bytes=4",
    "RepositoryIndexRequest": "repository_name:string=1 ready:bool=2",
    "ModelIndex": "name:string=1 version:string=2 state:string=3 reason:string=4",
    "RepositoryIndexResponse": "models:*ModelIndex=1",
    "RepositoryModelLoadRequest": _REPOSITORY_MODEL,
    "RepositoryModelLoadResponse": "",
    "RepositoryModelUnloadRequest": _REPOSITORY_MODEL,
    "RepositoryModelUnloadResponse": "",
    # The status is an enumeration, which has the same form on the wire as an int32.
    "HealthCheckRequest": "service:string=1",
    "HealthCheckResponse": "status:int32=1",
}
"""Fields by message, as ``name:type=number``; before the type, ``*`` repeats, ``%`` maps from string, ``?`` is one of a choice."""


@functools.cache
def classes() -> dict[str, Any]:
    """The message classes by name. Imports protobuf."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]

    file = descriptor_pb2.FileDescriptorProto(name="tidegate/inference.proto", package=PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields.split():
            _add_field(message, field)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in MESSAGES}


def _add_field(message: Any, text: str) -> None:
    name, _, rest = text.partition(":")
    kind, _, number = rest.partition("=")
    mark, kind = (kind[0], kind[1:]) if kind[0] in "*%?" else ("", kind)
    field = message.field.add(name=name, number=int(number))
    field.label = field.LABEL_REPEATED if mark in ("*", "%") else field.LABEL_OPTIONAL
    if mark == "%":
        entry = message.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        _add_field(entry, "key:string=1")
        _add_field(entry, f"value:{kind}=2")
        kind = f"{message.name}.{entry.name}"
    if mark == "?":
        if not message.oneof_decl:
            message.oneof_decl.add(name="parameter_choice")
        field.oneof_index = 0
    if kind[0].isupper():
        field.type = field.TYPE_MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"
    else:
        field.type = getattr(field, f"TYPE_{kind.upper()}")
