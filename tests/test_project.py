"""The project itself: what its files promise about each other, and what importing the package may do."""

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SOURCES = sorted((ROOT / "interp").rglob("*.py"))
PAGES = sorted([*ROOT.glob("*.md"), *(p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts)])
AXES_HEADING = "## Axis names"


def name(path: Path) -> str:
    """Return a path as the project writes it."""
    return path.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """Return a page without its code."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def run(code: str) -> list[str]:
    """Return the words a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.split()


# ------------------------------------------------------------------------------------------------------ one truth each


def test_every_file_names_the_same_version() -> None:
    stated = PYPROJECT["project"]["version"]
    changelog = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert changelog is not None
    assert citation is not None
    assert (changelog[1], citation[1], importlib.metadata.version("interp")) == (stated, stated, stated)


def requirements() -> Iterator[Requirement]:
    project = PYPROJECT["project"]
    for line in [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]:
        requirement = Requirement(line)
        if requirement.name != "interp" and requirement.marker is None:
            yield requirement


def canonical(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def test_constraints_pin_every_requirement_to_a_version_it_allows() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    versions = {canonical(package): Version(version) for package, version in pinned.items()}
    missing = {r.name for r in requirements()} - {r.name for r in requirements() if canonical(r.name) in versions}
    assert not missing
    refused = [str(r) for r in requirements() if not r.specifier.contains(versions[canonical(r.name)])]
    assert not refused


def test_extras_the_package_asks_for_exist() -> None:
    project = PYPROJECT["project"]
    asked = [Requirement(r) for extra in project["optional-dependencies"].values() for r in extra]
    named = {extra for r in asked if r.name == "interp" for extra in r.extras}
    installed = set(re.findall(r"EXTRAS := \[(\w+)\]", (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert named | installed <= set(project["optional-dependencies"])


# --------------------------------------------------------------------------------------------------------- the writing


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_the_two_commands_of_the_readme_are_targets() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {"demo", "test"} <= set(re.findall(r"^make (\w+)", readme, re.MULTILINE))


@pytest.mark.parametrize("page", [*PAGES, ROOT / ".ci" / "run", ROOT / ".github" / "workflows" / "ci.yml"], ids=name)
def test_every_make_command_in_the_text_is_a_target(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`|run: )make ([a-z-]+)", text, re.MULTILINE))
    assert named <= makefile_targets()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_between_files_resolves(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    local = [t.split("#")[0] for t in targets if not re.match(r"[a-z]+:|#", t)]
    broken = [t for t in local if not (page.parent / t).exists()]
    assert not broken


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_everything_public_has_a_docstring(source: Path) -> None:
    silent = [f"{source.name}:{node.lineno} {node.name}" for node in public(ast.parse(source.read_text("utf-8")))]
    assert not silent


def public(node: ast.AST) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield what is public below a module or a class and says nothing about itself."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or child.name.startswith("_"):
            continue
        overload = any("overload" in ast.unparse(d) for d in child.decorator_list)
        if not ast.get_docstring(child) and not overload:
            yield child
        if isinstance(child, ast.ClassDef):
            yield from public(child)


def axes_of(source: Path) -> Iterator[tuple[int, str]]:
    """Yield every axis name in the tensor annotations of a file, with its line."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Subscript) or not isinstance(node.slice, ast.Tuple) or len(node.slice.elts) != 2:
            continue
        kind, axes = ast.unparse(node.value).split(".")[-1], node.slice.elts[1]
        if kind in {"Float", "Int", "Bool", "Num", "Shaped", "Inexact", "UInt8", "Complex"} and isinstance(
            axes, ast.Constant
        ):
            yield from ((node.lineno, axis) for axis in str(axes.value).split())


def axis_table() -> list[str]:
    section = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8").split(AXES_HEADING)[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)`", section, re.MULTILINE)


@pytest.mark.parametrize("source", [s for s in SOURCES if "world" not in s.parts], ids=name)  # it draws pixels
def test_axis_names_come_from_the_closed_list(source: Path) -> None:
    # An axis may be any size (..., _), a number, shared (#), variadic (*), or a sum such as token+1.
    named = {(line, word) for line, axis in axes_of(source) for word in re.findall(r"[a-z][a-z_0-9]*", axis)}
    assert not {f"{source.name}:{line} {word}" for line, word in named if word not in axis_table()}


def test_the_page_of_concepts_lists_every_axis_of_a_result() -> None:
    from interp.data.result import AXES

    assert sorted(axis_table()) == sorted({*AXES, "batch"})


def test_the_page_of_concepts_lists_every_site_in_forward_order_with_its_axes() -> None:
    from interp.data.prompt import CAPTURE_AXES
    from interp.data.sites import SITES

    section = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8").split("\n## Sites")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| `([\w ]+)`", section, re.MULTILINE))
    assert tuple(rows) == SITES
    assert rows == {site: CAPTURE_AXES[site].removeprefix("layer ") for site in SITES}


CALL_TESTS = """
for _name in [n for n in globals() if n.startswith("test_")]:
    _test = globals().pop(_name)
    _test(*([lambda kind: model] if _test.__code__.co_argcount else []))
"""
"""Calls the tests that a block of a page shows, with the page's model in place of the fixture `model_of`."""


def block_run(block: str) -> str:
    """Return what runs a block of a page; one that shows a file of the package can be imported by the next ones."""
    shown = re.match(r"# (interp/\S+)\.py\n", block)
    known = f'import sys\nsys.modules["{shown[1].replace("/", ".")}"] = sys.modules["__main__"]\n' if shown else ""
    return block + known + CALL_TESTS


ANALYSES = [name(p) for p in PAGES if p.parent.name == "analyses" and "```python" in p.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", ["README.md", "docs/tour.md", "docs/extending.md", *ANALYSES])
def test_the_python_of_a_page_runs(page: str, tmp_path: Path, run_script: Callable[[Path], Any]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert blocks
    script = tmp_path / "page.py"
    script.write_text("\n".join(map(block_run, blocks)), encoding="utf-8")
    done = run_script(script)
    assert done.returncode == 0, done.stderr[-3000:]


# ---------------------------------------------------------------------------------------------- what the code must not


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_no_code_runs_from_a_file_or_a_string(source: Path) -> None:
    tree = ast.parse(source.read_text(encoding="utf-8"))
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    } | {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not imported & {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    assert not called & {"eval", "exec", "compile", "torch.load", "torch.save", "np.load", "numpy.load"}


IMPORT_EACH = """
import beartype, importlib, os, socket, sys, traceback, warnings
# Once, for all the children:
import matplotlib.pyplot, nnsight, pandas, scipy.stats, seaborn, torch, transformer_lens
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

def refuse(*args, **kwargs):
    raise OSError(f"the network was asked for: {args}")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse

def alone(name):
    warnings.simplefilter("error")
    try:
        importlib.import_module(name)
        return 0
    except BaseException:
        traceback.print_exc()
        return 1

for name in sys.stdin.read().split():
    child = os.fork()
    if not child:
        os._exit(alone(name))
    if os.waitpid(child, 0)[1]:
        print(name)
"""


@pytest.mark.slow
def test_every_module_can_be_imported_first_without_network_or_warning() -> None:
    modules = [".".join(s.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for s in SOURCES]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH],
        input="\n".join(modules),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert not done.stdout.split(), done.stderr[-3000:]


def test_importing_the_package_draws_nothing_and_traces_nothing() -> None:
    heavy = {"matplotlib", "seaborn", "nnsight", "transformer_lens", "pandas", "wandb"}
    loaded = run(f"import interp, sys; print(*sorted({heavy!r} & set(sys.modules)))")
    assert not loaded


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_files_speak_of_no_single_machine(source: Path) -> None:
    assert not re.findall(r"""["'\s](?:/home|/root|/Users)/\S+""", source.read_text(encoding="utf-8"))
