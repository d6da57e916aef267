"""How the documentation is built: MyST pages, an API reference generated from the docstrings, and the furo theme."""

import importlib.metadata
import re
from pathlib import Path
from typing import Any

project = "interp"
author = "The interp authors"
project_copyright = "2026, The interp authors"
release = version = importlib.metadata.version("interp")

extensions = [
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
default_role = "code"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\$ "
copybutton_prompt_is_regexp = True

apidoc_modules = [
    {
        "path": "../interp",
        "destination": "api/generated",
        "separate_modules": True,
        "module_first": True,
        "automodule_options": {"members", "show-inheritance"},
    }
]
# A name is described where it is defined, not again in the package that offers it.
autodoc_default_options = {"ignore-module-all": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = "interp"
html_show_sphinx = False


_variables: dict[str, list[str]] = {}


def as_written(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep the signs of formulas: outside of code spans a bar, a star or an underscore is itself, not markup."""
    text = re.split(r"(`+[^`]*`+)", "\n".join(lines))
    text[::2] = [re.sub(r"([|*]|_\b)", r"\\\1", part) for part in text[::2]]
    text[2::2] = [re.sub(r"^(?=\w)", r"\\ ", part) for part in text[2::2]]  # a plural after code
    lines[:] = "".join(text).split("\n")
    if what in {"attribute", "data", "property"} and not re.search(r"^\w+:$", "\n".join(lines), re.MULTILINE):
        _variables[name] = list(lines)


def colon_kept(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Undo what napoleon makes of a colon in the description of a variable: it takes the words before it for a type."""
    lines[:] = _variables.pop(name, lines)


def gallery(app: Any, docname: str, source: list[str]) -> None:
    """Append to the gallery the figures that bring their text in a file of their own, figures/<name>.md."""
    if docname == "figures":
        own = [p.read_text(encoding="utf-8") for p in sorted((Path(app.srcdir).parent / "figures").glob("*.md"))]
        source[0] += "".join(f"\n\n{text.replace('](', '](../figures/')}" for text in own)


def setup(app: Any) -> None:
    """Connect the functions above: two to the docstrings, before and after their sections are parsed, one to the pages."""
    app.connect("source-read", gallery)
    app.connect("autodoc-process-docstring", as_written, priority=100)
    app.connect("autodoc-process-docstring", colon_kept, priority=900)
