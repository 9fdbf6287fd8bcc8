"""Families of random graphs, each a function that draws one into a draft."""

from . import (  # noqa: F401  (each registers its families)
    attention,
    chains,
    constants,
    control,
    convolution,
    elementwise,
    indexing,
    legacy,
    matrices,
    moving,
    networks,
    normalization,
    recurrent,
    reducing,
    resizing,
)
from .registry import FAMILIES as FAMILIES
