"""What every test shares: checked shapes, fixed seeds, no network, no screen."""

import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import beartype  # noqa: F401 (before nnsight, which cannot be imported otherwise)
import numpy as np
import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Axis names and types of every argument and result in interp are checked while the tests run.
# INTERP_NO_TYPECHECK=1 leaves that out: for a debugger, and to see what the checks cost.
if not os.environ.get("INTERP_NO_TYPECHECK"):
    install_import_hook("interp", "beartype.beartype")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let tests that need the Hugging Face Hub be asked for."""
    parser.addoption("--hub", action="store_true", help="also run the tests that need the Hugging Face Hub")


def pytest_configure(config: pytest.Config) -> None:
    """Keep every library away from the hub before it is imported, and torch to one thread."""
    if not config.getoption("--hub"):
        os.environ["HF_HUB_OFFLINE"] = "1"
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    from hypothesis import settings

    settings.register_profile("interp", deadline=None)  # a busy machine is no failure
    settings.load_profile("interp")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests that need the hub unless they are asked for."""
    if config.getoption("--hub"):
        return
    left_out = [item for item in items if item.get_closest_marker("hub")]
    items[:] = [item for item in items if not item.get_closest_marker("hub")]
    config.hook.pytest_deselected(items=left_out)


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Start every test from the same random state."""
    import torch

    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (libraries that still draw from the global state)


@pytest.fixture(autouse=True)
def no_open_figures() -> Iterator[None]:
    """Close the figures a test leaves behind."""
    import sys

    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture(scope="session")
def model_of() -> Callable[..., Any]:
    """Return the function that loads a family's tiny model, once for each floating-point type."""
    import interp
    from interp.families.base import family

    @functools.cache
    def load(kind: str, dtype: Any = None) -> Any:
        module, processor = family(kind).tiny()
        return interp.load(module if dtype is None else module.to(dtype), processor=processor)

    return load


@pytest.fixture(scope="session")
def picture() -> Callable[..., np.ndarray]:
    """Return the function that makes a random picture of (rows, cols)."""

    def make(rows: int = 40, cols: int = 56, seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 255, (rows, cols, 3), dtype=np.uint8)

    return make


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Leave the checks of argument types out, as they are for users: what follows are the package's own errors."""
    from jaxtyping import config

    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)
