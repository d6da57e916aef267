"""What starting costs, each import in a fresh Python: python benchmarks/startup.py; with what `make demo` runs unless --no-demo.

Processor seconds, imports taking turns.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timing import Claim, compared, parser, record, stated

ROOT = Path(__file__).parents[1]
TORCH = "import torch, transformers"
VERBS = "import interp; interp.load, interp.capture, interp.measure, interp.generate"
BY_HAND = "import torch; from transformers import AutoProcessor, LlavaForConditionalGeneration"
IMPORT = Claim("`import interp`", f"`{TORCH}`", 1.3)
READY = Claim("`import interp` and all its verbs", f"`{BY_HAND}`", 1.3)
DEMO = Claim("`make demo` after installation", "seconds of wall time on two cores", 180)


def spent(code: str) -> float:
    """Return the processor seconds a fresh Python takes for something."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)  # noqa: S603
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Measure, print and write down."""
    options = parser(__doc__, sizes=("fresh Python",))
    options.add_argument(
        "--demo", action=argparse.BooleanOptionalAction, default=True, help="whether to time `make demo`"
    )
    given = options.parse_args()
    taken: dict[str, list[float]] = {c: [] for c in (TORCH, "import interp", BY_HAND, VERBS)}
    for index in range(given.rounds + 1):
        for code, times in taken.items():
            one = spent(code)
            if index:  # the first round reads the disk
                times.append(one)
    torch, ours, by_hand, verbs = taken.values()
    found = [compared(IMPORT, torch, ours, size=given.size), compared(READY, by_hand, verbs, size=given.size)]
    record(found)
    if given.demo:
        command = str(Path(sys.executable).with_name("interp"))
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            subprocess.run([command, "demo", "--out", folder], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
            record([stated(DEMO, [time.perf_counter() - begin], size="embedded")])


if __name__ == "__main__":
    main()
