from .blobs_pb2 import *
from .details_pb2 import (
    Any as Any,
    BadRequest as BadRequest,
    ErrorInfo as ErrorInfo,
    OnnxFile as OnnxFile,
    OnnxGraph as OnnxGraph,
    OnnxNode as OnnxNode,
    OnnxTensor as OnnxTensor,
    RetryInfo as RetryInfo,
    Status as Status,
)
from .jobs_pb2 import *
from .quantize_pb2 import *
