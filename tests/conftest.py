"""What every test shares: checked shapes, fixed seeds, no network, no screen."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
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


WARM = """
import json, os, runpy, sys, traceback
import matplotlib.pyplot, nnsight, pandas, scipy.stats, torch, transformer_lens, interp
interp.generate, interp.measure
interp.load("scenes")

for line in sys.stdin:
    script, folder = json.loads(line)
    child = os.fork()
    if not child:
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(script + "." + name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        os.chdir(folder)
        code = 0
        try:
            runpy.run_path(script, run_name="__main__")
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=sys.__stdout__, flush=True)
"""
"""Runs scripts in children of one process that has imported the package: importing it takes longer than most scripts."""


@pytest.fixture(scope="session")
def run_script() -> Iterator[Callable[[Path], subprocess.CompletedProcess[str]]]:
    """Return the function that runs a Python file in its own folder and process, as a user would, without checks of types."""
    server = subprocess.Popen(
        [sys.executable, "-c", WARM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None

    def run(script: Path) -> subprocess.CompletedProcess[str]:
        server.stdin.write(json.dumps([str(script), str(script.parent)]) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        out, err = (Path(f"{script}.{name}").read_text(encoding="utf-8") for name in ("out", "err"))
        return subprocess.CompletedProcess([str(script)], code, out, err)

    yield run
    server.stdin.close()
    server.wait()
    server.stdout.close()
