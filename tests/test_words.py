"""One word per idea: text that a user reads uses the terms of the glossary in docs/concepts.md, never those that it replaced."""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("interp", "figures", "tables", "benchmarks")
VOCABULARY = ROOT / "interp" / "world" / "wording.py"  # the words of the drawn world
SOURCES = sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py") if p != VOCABULARY)
PAGES = sorted([*ROOT.glob("*.md"), *(p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts)])
PAGES += sorted((ROOT / "benchmarks").glob("*.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ASSETS = sorted(p for kind in ("*.html", "*.js") for p in (ROOT / "interp" / "report").glob(kind))
GLOSSARY = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8").split("\n## Glossary")[1]


@dataclass(frozen=True)
class Retired:
    """Words that are no longer used, what to write instead, and what the pattern must and must not match."""

    pattern: str
    instead: str
    refused: str
    allowed: str = ""

    def __str__(self) -> str:
        return self.refused


WORDS = [
    Retired(r"\bundisturbed\b", "clean run", "the undisturbed pass", "without disturbing the order"),
    Retired(
        r"\b(?:model|models|questions|everything) as (?:it|they) (?:is|are)\b",
        "baseline",
        "against the model as it is",
        "the value is returned as it is",
    ),
    Retired(
        r"\bas it (?:is|was),? (?:and|or) (?:under|with)\b",
        "at baseline and",
        "as it is and under VAF",
        "as it is, and the rest",
    ),
    Retired(r"\buntouched model\b", "baseline, plain model", "beside the untouched model", "the untouched rows"),
    Retired(r"\bresting (?:tokens?|place|position)", "attention sink", "a resting token", "the rest of the tokens"),
    Retired(
        r"\b(?:attention|heads?|rows?|layers?) (?:that )?rests? on\b", "goes to the sink", "attention rests on a sink"
    ),
    Retired(r"\bexpected gradients?\b", "pattern gradient", "expected gradients", "the expected value"),
    Retired(
        r"\bexplicit(?:ly)? (?:attention|rows?|patterns?|layers?|scores?)\b",
        "eager attention, eager rows",
        "explicit rows",
        "an explicit list",
    ),
    Retired(r"\bsurpris(?:e|es)\b", "surprisal", "the surprise of a token", "a surprising result, its surprisal"),
    Retired(r"\bnobody\b", "idle tap, unused: say what is not used", "taps nobody looks at", "no body"),
    Retired(r"\b(?:come|comes|coming|came) by\b", "reach, read", "values that come by", "become bypassed"),
    Retired(r"\b(?:hear|hears|listen|listens|listening)\b", "read, observe", "it hears of", "heard"),
    Retired(r"\b(?:hang|hangs|hanging) on\b(?! to)", "depends on", "times hang on the load", "holds on"),
    Retired(
        r"\b(?:is|are|was|were) to be (?:had|seen|found)\b", "a plain verb", "no gain is to be had", "is to be set"
    ),
    Retired(r"\b(?:none are|that are none)\b", "a plain verb", "words that are none stay", "none of them"),
    Retired(
        r"\b(?:under|without|with) (?:a|an|any|the|some|no|every|each|several|these) changes?\b(?! (?:in|of|to)\b)",
        "intervention",
        "under the change",
        "with a change of sign",
    ),
    Retired(
        r"\b(?:under|without|beside other|same|some|idle) changes\b(?! (?:in|of|to)\b)",
        "interventions",
        "the same changes",
    ),
    Retired(
        r"(?<!visual )(?<!positive )(?<!negative )(?<!Words are )(?<!Intervening )(?<!re-)\banchors?\b",
        "visual anchor (CLVA), sink (TAME)",
        "holds on to its anchors",
        "visual anchors, the positive anchor",
    ),
    Retired(
        r"\bstands? (?:in|at|behind|above|below|beside|with|on)\b(?! for)",
        "is in, is at",
        "stands in the file",
        "stands in for",
    ),
]
"""What is refused, in any letter case, outside of code."""

IN_CODE = [Retired(r"\bchanges ?=", "interventions=", "measure(model, prompt, changes=x)", "interventions=x")]
"""What is refused in the code of pages and notebooks."""


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def without_code(markdown: str) -> str:
    text = re.sub(r"^```.*?^```", "", markdown, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`|\]\([^)]*\)|\{\w+\}", "` `", text)


def strings(source: Path) -> Iterator[str]:
    """Yield the docstrings and every string of a file: messages, help and captions. Code spans are left out."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.value


def script_strings(source: str) -> str:
    """Return the strings of JavaScript that hold more than one word, which a reader of the report sees."""
    found = re.findall(r'"[^"\n]*"|`[^`]*`', re.sub(r"^\s*//.*$", "", source, flags=re.MULTILINE))
    return "\n".join(s for s in found if " " in s)


def private(source: Path) -> set[str]:
    """Return the docstrings of private functions and classes, which no user reads."""
    kinds = ast.FunctionDef | ast.ClassDef
    nodes = [n for n in ast.walk(ast.parse(source.read_text(encoding="utf-8"))) if isinstance(n, kinds)]
    hidden = [m for n in nodes if n.name.startswith("_") and not n.name.startswith("__") for m in ast.walk(n)]
    return {ast.get_docstring(n, clean=False) or "" for n in hidden if isinstance(n, kinds)}


def notebook(path: Path, kind: str) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == kind)


def retired(text: str, words: list[Retired] = WORDS) -> list[str]:
    """Return every retired word in a text with its surroundings and the replacement."""
    flat = re.sub(r"\s+", " ", text)
    found = [(w, m) for w in words for m in re.finditer(w.pattern, flat, re.IGNORECASE)]
    return [f"...{flat[max(0, m.start() - 30) : m.end() + 30]}... -> {w.instead}" for w, m in found]


@pytest.mark.parametrize("word", [*WORDS, *IN_CODE], ids=str)
def test_a_pattern_refuses_what_it_should_and_no_more(word: Retired) -> None:
    assert re.search(word.pattern, word.refused, re.IGNORECASE)
    assert not re.search(word.pattern, word.allowed, re.IGNORECASE)


@pytest.mark.parametrize(
    "term",
    [
        "Attention sink",
        "Baseline",
        "Clean run",
        "Eager attention",
        "Idle tap",
        "Intervention",
        "Surprisal",
        "Visual anchor",
    ],
)
def test_the_glossary_has_the_replacement(term: str) -> None:
    assert re.search(rf"^{term}\b.*\n: ", GLOSSARY, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pages_use_the_words_of_the_glossary(page: Path) -> None:
    assert not retired(without_code(page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "CHANGELOG.md"], ids=name)  # it names the old keyword
def test_the_code_of_pages_uses_the_new_names(page: Path) -> None:
    assert not retired(page.read_text(encoding="utf-8"), IN_CODE)


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_docstrings_and_messages_use_the_words_of_the_glossary(source: Path) -> None:
    hidden = private(source)
    assert not [r for text in strings(source) if text not in hidden for r in retired(without_code(text))]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebooks_use_the_words_of_the_glossary(path: Path) -> None:
    assert not retired(without_code(notebook(path, "markdown")))
    assert not retired(notebook(path, "code"), IN_CODE)


@pytest.mark.parametrize("asset", ASSETS, ids=name)
def test_report_pages_use_the_words_of_the_glossary(asset: Path) -> None:
    text = asset.read_text(encoding="utf-8")
    assert not retired(script_strings(text) if asset.suffix == ".js" else re.sub(r"<[^>]*>", " ", text))
