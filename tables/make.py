"""Every method on every benchmark, as the papers' main tables have it: python tables/make.py [--only chair] [--model scenes].

Writes tables/<benchmark>.csv (every number), .md and .tex (headline scores with 95 % intervals, paired differences from greedy decoding,
tests). Time was taken on whatever the machine did beside, so cost is measured by benchmarks/decoding.py instead. What was asked before
with the same weights, data and settings is not asked again, so a call that was stopped goes on. The most sensitive heads, which AIR and
AD-HH need, are those that figures/air_sensitivity.py found on other scenes.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "figures"))

BENCHMARKS = {
    "chair": "chair:n={twice},split=counter_prior",
    "pope": "pope:n={n},split=counter_prior",
    "steps": "steps:n={twice}",
    "mme": "mme:n={n}",
}
"""The drawn world's own questions; scenes that invite an invention, and their controls, where hallucination is judged."""
SETTINGS = {"air": "air_fig1", "spear": "spear_fig7", "sgrs": "saliency_fig4", "clva": "clva_fig5"}
"""The figure whose data hold the ablation of a method's settings."""
SWEEPS: dict[str, tuple[dict[str, str], str, tuple[float, ...]]] = {
    "tame": ({"variant": "release"}, "strength", (0.0, 0.4, 0.8, 1.2)),
    "locore": ({}, "gain", (0.0, 0.15, 0.3, 0.6)),
}
"""Ablations that no figure draws: settings of the method, which one varies, and its values."""
SLOW = ("opera", "sgrs")
"""Decoding loops that follow one reply at a time."""


def every_method(*, slow: bool) -> list[Any]:
    """Return every method that the embedded model can run, with its published settings, the papers' own first."""
    from sensitive import sensitive_heads

    from interp.interventions.method import build_method, methods

    heads = tuple(sensitive_heads())
    ours = ("tame", "air", "adhh", "vaf", "spear", "locore", "clva", "sgrs")
    theirs = sorted(set(methods()) - {*ours, "contrast", "halc"})  # the base of others; needs a detector
    chosen = [n for n in (*ours, *theirs) if slow or n not in SLOW]
    return [build_method(n, **({"heads": heads} if n in ("air", "adhh") else {})) for n in chosen]


def settings_tables() -> None:
    """Write the papers' ablations of settings, which the figures measured, as tables/settings_<method>.md and .tex."""
    import json

    import pandas as pd

    data = HERE.parent / "figures" / "data"
    for method, figure in SETTINGS.items():
        made = json.loads((data / f"{figure}.json").read_text(encoding="utf-8"))
        write_settings(method, pd.read_csv(data / f"{figure}.table.csv"), f"{made['command']} · model {made['model']}")


def sweep_tables(model: str) -> None:
    """Measure the ablations that no figure draws, and write them likewise."""
    from recipe import Setting
    from settings import swept

    from interp.interventions.method import build_method

    for method, (settled, name, values) in SWEEPS.items():
        frame = swept(Setting(model, 30, 0), build_method(method, **settled), {name: values})
        others = "".join(f"{n}={v} · " for n, v in settled.items())
        write_settings(method, frame, f"{others}python tables/make.py · model {model}")


def causal_table() -> None:
    """Write the means of SPEAR's causal study, whose figure holds every reply's, as tables/spear_tasks.md and .tex."""
    import json

    import pandas as pd

    from interp.data.storage import write_text
    from interp.runs.table_formats import format_table

    data = HERE.parent / "figures" / "data"
    made = json.loads((data / "spear_fig4.json").read_text(encoding="utf-8"))
    study = pd.read_csv(data / "spear_fig4.study.csv", keep_default_na=False)
    means = (
        study.groupby(["task", "tokens", "how"], sort=False)
        .mean(numeric_only=True)
        .drop(columns="prompt")
        .reset_index()
    )
    cells = [[v if isinstance(v, str) else f"{v:.3f}" for v in row] for row in means.to_numpy().tolist()]
    title = f"three tasks without the sink · {made['command']} · model {made['model']}"
    for ending, how in (("md", "markdown"), ("tex", "latex")):
        write_text(HERE / f"spear_tasks.{ending}", format_table(how, title, list(means.columns), cells))


def write_settings(method: str, frame: Any, made: str) -> None:
    """Write the scores under every value, greedy decoding first."""
    import pandas as pd

    from interp.data.storage import write_text
    from interp.runs.table_formats import format_table

    shown = {"chair_s": "CHAIR_s", "chair_i": "CHAIR_i", "recall": "recall"}
    cells = [
        [
            *(["greedy", ""] if pd.isna(row["value"]) else [row["setting"], f"{row['value']:g}"]),
            *(f"{row[c]:.3f} [{row[f'{c}_low']:.3f}, {row[f'{c}_high']:.3f}]" for c in shown),
        ]
        for _, row in frame.drop_duplicates(["setting", "value"]).iterrows()
        if pd.notna(row["value"]) or row["setting"] == frame["setting"].iloc[0]
    ]
    title = f"{method}, one setting at a time, on {int(frame['n'].iloc[0])} captions · {made}"
    for ending, how in (("md", "markdown"), ("tex", "latex")):
        write_text(
            HERE / f"settings_{method}.{ending}", format_table(how, title, ["setting", "value", *shown.values()], cells)
        )


def main() -> None:
    """Ask everything and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="scenes", help="scenes, a Hugging Face name, or a folder (default: scenes)")
    parser.add_argument("--only", choices=BENCHMARKS, action="append", help="one benchmark; repeatable (default: all)")
    parser.add_argument(
        "--n", type=int, default=24, help="how many scenes; twice as many for long replies (default: 24)"
    )
    parser.add_argument("--fast", action="store_true", help=f"leave out {' and '.join(SLOW)}")
    parser.add_argument("--folder", default=str(HERE.parent / "runs"), help="where runs are kept (default: runs/)")
    options = parser.parse_args()

    import interp
    from interp.data.storage import write_text

    settings_tables()
    causal_table()
    sweep_tables(options.model)
    model = interp.load(options.model)
    chosen = every_method(slow=not options.fast)
    fitting = [m for m in chosen if m.refusal(model) is None]
    for name in options.only or BENCHMARKS:
        asked = BENCHMARKS[name].format(n=options.n, twice=2 * options.n)
        table = interp.run(model, asked, fitting, folder=options.folder)
        for ending, how in (("csv", "csv"), ("md", "markdown"), ("tex", "latex")):
            write_text(HERE / f"{name}.{ending}", table.render(how, parts=name == "mme", costs=False))
        print(table)


if __name__ == "__main__":
    main()
