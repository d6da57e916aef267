"""Write docs/performance.md from benchmarks/results/*.json and benchmarks/account.md: python benchmarks/render.py."""

import argparse
import json
from pathlib import Path
from typing import Any

from timing import RESULTS

HERE = Path(__file__).parent
UNMEASURED = {"llava7b": "LLaVA-1.5-7B", "qwen7b": "Qwen2.5-VL-7B"}
HEADER = """# Performance

Every figure is the ratio of two ways to compute the same thing, which take turns in one process: the median of the ratios of all pairs,
with the quartiles in brackets. On a CPU, times are processor seconds of one thread, so that other load on the machine matters
less; where arrays are large, freed memory is kept for the next round. `make bench` measures everything again and writes this page. The
sizes: `embedded` is the model that ships with the package; `mid` is a LLaVA with a Llama decoder of 16 layers, 16 heads and width 1024,
with random weights and 640 tokens, of which 576 are image tokens.
"""
COLUMNS = ("claim", "against", "size", "aim", "measured", "met")


def entries(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the measurements of every script, by its name."""
    files = sorted(p for p in folder.glob("*.json") if p.stem != "growth")
    return {p.stem: json.loads(p.read_text()) for p in files}


def number(value: float) -> str:
    """Return three digits, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def row(one: dict[str, Any]) -> str:
    """Return one row of the table."""
    met = one["ratio"] <= one["aim"] if one["sense"] == "at most" else one["ratio"] >= one["aim"]
    low, high = (number(x) for x in one["spread"])
    sign, times = ("≤", "") if one["sense"] == "at most" else ("≥", " ×")
    found = f"{number(one['ratio'])}{times} [{low}, {high}]"
    cells = (
        one["what"],
        one["against"],
        one["size"],
        f"{sign} {number(one['aim'])}{times}",
        found,
        "yes" if met else "**no**",
    )
    return f"| {' | '.join(cells)} |"


def section(name: str, found: list[dict[str, Any]]) -> str:
    """Return the table of one script, with the commands that produced it."""
    lines = [f"## {name}", "", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", *map(row, found), ""]
    machines = sorted({f"{one['machine']}, {one['rounds']} rounds" for one in found})
    commands = list(dict.fromkeys(one["command"] for one in found))
    notes = list(dict.fromkeys(f"{one['what']} ({one['size']}): {one['note']}" for one in found if one["note"]))
    sources = "; ".join(f"`{c}`" for c in commands)
    return "\n".join([*lines, f"{sources}. {'; '.join(machines)}.", "", *(f"- {n}." for n in notes)]).rstrip() + "\n"


def growth(path: Path) -> str:
    """Return the table of exponents and the figure."""
    if not path.exists():
        return ""
    held = json.loads(path.read_text())
    axes = list(dict.fromkeys(f["along"] for f in held["found"]))
    verbs = list(dict.fromkeys(f["verb"] for f in held["found"]))
    slopes = {(f["verb"], f["along"]): f["exponent"] for f in held["found"]}
    lines = [f"| {verb} | {' | '.join(f'{slopes[verb, a]:.2f}' for a in axes)} |" for verb in verbs]
    sizes = "; ".join(f"{f['along']} {', '.join(map(str, f['sizes']))}" for f in held["found"] if f["verb"] == verbs[0])
    source = (
        f"`python benchmarks/growth.py`: a Llama of 4 layers, 4 heads of 32, 256 tokens; one of these grows at a time ({sizes}). "
        f"{held['machine']}, medians of {held['rounds']} rounds."
    )
    return "\n".join(
        [
            "## How cost grows",
            "",
            "The exponent n in seconds ∝ size^n, over the larger sizes. The width of the model grows with the number of heads.",
            "",
            f"| | {' | '.join(axes)} |",
            "|---" * (len(axes) + 1) + "|",
            *lines,
            "",
            "![Seconds against size on logarithmic axes, one panel each for tokens, layers, heads and samples](performance-growth.png)",
            "",
            source,
            "",
        ]
    )


def page(results: Path, account: Path) -> str:
    """Return the whole page."""
    found = entries(results)
    flat = [one for several in found.values() for one in several]
    accelerated = {one["size"] for one in flat if "--device cuda" in one["command"]}
    missing = [name for size, name in UNMEASURED.items() if size not in accelerated]
    lacking = (
        f"Not measured, because no accelerator was available: the shapes of {' and '.join(missing)} in bfloat16.\n"
        if missing
        else ""
    )
    parts = [HEADER, lacking, *(section(n, f) for n, f in found.items())]
    parts += [growth(results / "growth.json"), account.read_text() if account.exists() else ""]
    return "\n".join(p for p in parts if p)


def main() -> None:
    """Write the page."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--results", type=Path, default=RESULTS)
    options.add_argument("--account", type=Path, default=HERE / "account.md")
    options.add_argument("--out", type=Path, default=HERE.parent / "docs" / "performance.md")
    given = options.parse_args()
    given.out.write_text(page(given.results, given.account), encoding="utf-8")


if __name__ == "__main__":
    main()
