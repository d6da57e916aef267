"""The recipe of every figure script: load saved results and draw them; `--recompute` measures them again.

A script names its parts (a kind of result and a function that measures it) and draws them:

    recipe("spear_fig5", {"shares": Part(SinkShares, shares)}, draw, about=__doc__)

Parts are saved in figures/data/<figure>.<part>.safetensors (a `Result`) or .csv (a table). While they are measured they are
kept in runs/figures/, part by part, so that an interrupted recomputation can be resumed.
"""

import argparse
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import pandas as pd
from matplotlib.figure import Figure

from interp.data.storage import write_text
from interp.plot.style import style

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
UNFINISHED = HERE.parent / "runs" / "figures"


@final
@dataclass(frozen=True)
class Setting:
    """The model and samples that a figure is measured on.

    Args:
        model: the model's name, as `interp.load` takes it.
        n: the number of samples.
        seed: of the samples.
    """

    model: str
    n: int
    seed: int

    @property
    def loaded(self) -> Any:
        """The model, loaded once per name."""
        return _loaded(self.model)


@final
@dataclass(frozen=True)
class Part:
    """One saved piece of a figure.

    Args:
        kind: the class of the result, or `pandas.DataFrame`.
        measure: from a setting to the result; models and data are imported inside, so that drawing needs neither.
    """

    kind: Any
    measure: Callable[[Setting], Any]

    def path(self, folder: Path, name: str) -> Path:
        """Return the file of this part."""
        return folder / f"{name}.{'csv' if self.kind is pd.DataFrame else 'safetensors'}"

    def save(self, path: Path, value: Any) -> None:
        """Write the part atomically."""
        if self.kind is pd.DataFrame:
            write_text(path, value.to_csv(index=False, float_format="%.6g"))
        else:
            value.save(path)

    def load(self, path: Path) -> Any:
        """Read the part."""
        return pd.read_csv(path, keep_default_na=True) if self.kind is pd.DataFrame else self.kind.load(path)


def recipe(
    name: str, parts: Mapping[str, Part], draw: Callable[..., Figure], *, about: str, n: int = 40, seed: int = 0
) -> None:
    """Draw a figure from its saved parts; with `--recompute`, measure them first.

    Args:
        name: the figure's name, which is the script's.
        parts: its parts by name.
        draw: from the parts, by name, to the figure.
        about: the help text of the script.
        n: the default number of samples.
        seed: the default seed of the samples.

    Raises:
        SystemExit: a part is missing; the message has the command that makes it.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--recompute", action="store_true", help="measure the data again; resumes an interrupted measurement"
    )
    parser.add_argument("--model", default="scenes", help="scenes, a Hugging Face name, or a folder (default: scenes)")
    parser.add_argument("--n", type=int, default=n, help=f"number of samples (default: {n})")
    parser.add_argument("--seed", type=int, default=seed, help=f"seed of the samples (default: {seed})")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the pictures (default: figures/)")
    options = parser.parse_args()
    files = {p: part.path(DATA, f"{name}.{p}") for p, part in parts.items()}
    if options.recompute:
        _recompute(name, parts, files, Setting(options.model, options.n, options.seed))
    missing = [f.name for f in files.values() if not f.exists()]
    if missing:
        raise SystemExit(
            f"{', '.join(missing)} is missing from figures/data; make it with: python figures/{name}.py --recompute"
        )
    with style():
        figure = draw(**{p: part.load(files[p]) for p, part in parts.items()})
        options.out.mkdir(parents=True, exist_ok=True)
        figure.savefig(options.out / f"{name}.png", dpi=200)
        figure.savefig(options.out / f"{name}.pdf", metadata={"CreationDate": None})


def _recompute(name: str, parts: Mapping[str, Part], files: Mapping[str, Path], setting: Setting) -> None:
    """Measure every part that an earlier, interrupted recomputation of the same setting lacks; then move all into place."""
    folder = UNFINISHED / f"{name}-{setting.model.replace('/', '--')}-{setting.n}-{setting.seed}"
    done = {p: part.path(folder, p) for p, part in parts.items()}
    for index, (p, part) in enumerate(parts.items(), 1):
        print(f"{name} {index}/{len(parts)}: {p}{' (kept from before)' if done[p].exists() else ''}", flush=True)
        if not done[p].exists():
            part.save(done[p], part.measure(setting))
    DATA.mkdir(exist_ok=True)
    for p, path in done.items():
        path.replace(files[p])
    made = {
        "command": f"python figures/{name}.py --recompute --n {setting.n} --seed {setting.seed}",
        "model": setting.model,
    }
    write_text(DATA / f"{name}.json", json.dumps(made, indent=2) + "\n")
    folder.rmdir()


@functools.lru_cache(maxsize=1)
def _loaded(name: str) -> Any:
    import interp

    return interp.load(name)
