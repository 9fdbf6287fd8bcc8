"""What the tests share: the repository's small model, one server on this machine, PyTorch where it is asked for.

DUAL16_PROGRAM names the `dual16` that is tested.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

import dual16

REPOSITORY = Path(__file__).resolve().parents[3]
SMALL = REPOSITORY / "tests/data/smallmodel"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of PyTorch run where it is installed: DUAL16_TEST_TORCH=1 ./test."""
    if importlib.util.find_spec("torch") is None:
        for item in items:
            if "torch" in item.keywords:
                item.add_marker(pytest.mark.skip("PyTorch is not installed"))


@pytest.fixture(scope="session")
def client() -> Iterator[dual16.Client]:
    with dual16.Client.local(workers=2) as local:
        yield local


@pytest.fixture(scope="session")
def small(client: dual16.Client, tmp_path_factory: pytest.TempPathFactory) -> dual16.Result:
    """The small model's result with the defaults."""
    out = tmp_path_factory.mktemp("small")
    return dual16.quantize(SMALL / "model.onnx", SMALL / "calib", client=client, out=out)
