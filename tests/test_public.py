"""What `import interp` offers."""

import ast
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

import interp

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = (ROOT / "docs" / "api" / "index.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", dir(interp))
def test_everything_that_dir_lists_is_there(name) -> None:
    assert getattr(interp, name) is not None


def test_dir_lists_what_a_user_imports() -> None:
    wanted = "Heads Intervention Method Analysis Benchmark SINKS plot report testing analysis interventions methods effect measure"
    assert set(wanted.split()) <= set(dir(interp))


def test_a_type_checker_sees_the_same_names() -> None:
    tree = ast.parse((ROOT / "interp" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported == set(interp.__all__) == set(interp._MODULE_OF)


def test_a_misspelt_name_gets_the_nearest() -> None:
    with pytest.raises(AttributeError, match=r"module 'interp' has no attribute 'mesure' \(did you mean measure\?\)"):
        _ = interp.mesure


def test_the_reference_describes_every_public_name() -> None:
    described = set(re.findall(r"^\.\. auto\w+:: interp(?:\.[\w.]+)?\.(\w+)$", REFERENCE, re.MULTILINE))
    assert set(interp.__all__) <= described


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import interp, sys; print(sorted({'torch', 'numpy', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "[]\n"


def test_every_message_is_logged_under_the_name_of_the_package() -> None:
    for source in (ROOT / "interp").rglob("*.py"):
        loggers = re.findall(r"getLogger\((.*?)\)", source.read_text(encoding="utf-8"))
        assert set(loggers) <= {"__name__", '"interp"'}, source
    package = logging.getLogger("interp")
    assert logging.getLogger("interp.loading").parent is package
