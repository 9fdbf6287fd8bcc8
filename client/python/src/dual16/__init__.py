"""Quantization for Horizon J6E/M: what it costs, how it is mended, and the integers.

    result = dual16.quantize(model, loader)

`quantize` does it all; `plan` says beforehand what it would do, `analyze` what each fake quant costs, `rescale` derives
scales again. `Client` and `Job` are their parts, for servers and for jobs that are watched as they go. `aio` has the
same for asyncio, `testing` assertions, `capture` (needs PyTorch) the inputs of Linears.
"""

from . import aio, errors, testing
from ._calls import analyze, plan, quantize, rescale
from ._prepare import Priority
from .batches import Data
from .client import Client
from .converted import Converted, ConvertedLayer, load_converted
from .errors import Error
from .events import (
    Event,
    LayerMeasured,
    Mended,
    Metrics,
    Notice,
    OutputMeasured,
    OutputSensitivity,
    Progress,
    Retried,
    SensitivityMeasured,
    State,
    StateChanged,
    WayMeasured,
)
from .jobs import Job
from .models import Model
from .plans import Estimate, Named, Plan, PlannedLayer
from .rescaling import Changes
from .results import Layer, Partial, Result
from .sensitivity import BatchSensitivity, Sensitivity, Together
from .settings import Settings

__all__ = [
    "BatchSensitivity", "Changes", "Client", "Converted", "ConvertedLayer", "Data", "Error", "Estimate", "Event",
    "Job", "Layer", "LayerMeasured", "Mended", "Metrics", "Model", "Named", "Notice", "OutputMeasured",
    "OutputSensitivity", "Partial", "Plan", "PlannedLayer", "Priority", "Progress", "Result", "Retried",
    "Sensitivity", "SensitivityMeasured", "Settings", "State", "StateChanged", "Together", "WayMeasured", "aio",
    "analyze", "errors", "load_converted", "plan", "quantize", "rescale", "testing",
]  # fmt: skip
