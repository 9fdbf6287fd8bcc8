"""Quantization for Horizon J6E/M: what it costs, how it is mended, and the integers.

    result = dual16.quantize(model, loader)

`quantize` does it all; `Client` and `Job` are its parts, for servers and for jobs that are watched as they go. `aio`
has the same for asyncio, `testing` assertions, `capture` (needs PyTorch) the inputs of Linears.
"""

from . import aio, errors, testing
from ._quantize import quantize
from .batches import Data
from .client import Client, Job
from .converted import Converted, ConvertedLayer, load_converted
from .errors import Error
from .events import (
    Event,
    LayerMeasured,
    Mended,
    Metrics,
    Notice,
    OutputMeasured,
    Progress,
    Retried,
    State,
    StateChanged,
    WayMeasured,
)
from .models import Model
from .results import Layer, Partial, Result
from .settings import Settings

__all__ = [
    "Client", "Converted", "ConvertedLayer", "Data", "Error", "Event", "Job", "Layer", "LayerMeasured", "Mended",
    "Metrics", "Model", "Notice", "OutputMeasured", "Partial", "Progress", "Result", "Retried", "Settings", "State",
    "StateChanged", "WayMeasured", "aio", "errors", "load_converted", "quantize", "testing",
]  # fmt: skip
