"""What every plot looks like, against the images in baseline/; CONTRIBUTING.md says how to regenerate those.

A new plot brings its arguments in its own test file, tests/plot/test_<noun>.py, as `EXAMPLES`.
"""

import importlib
import inspect
import math
import pkgutil
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

import interp.plot
from interp.analysis.anchors import VisualAnchors, VisualDrift
from interp.analysis.base import View
from interp.analysis.budget import SegmentShares, SinkShares, share_change
from interp.analysis.distribution import AttentionDistribution
from interp.analysis.empirical import ObservedPropagation
from interp.analysis.imbalance import ModalityImbalances, TokenImbalances
from interp.analysis.massive import MassiveTable
from interp.analysis.propagation import PropagationCurves
from interp.analysis.readouts import LensTable, LogitParts
from interp.analysis.rollout import Roots
from interp.analysis.saliency import SaliencyMaps, TokenSaliency
from interp.analysis.sensitivity import Erasure, FirstOrder, sensitivity
from interp.analysis.similarity import HeadSimilarity
from interp.analysis.spectrum import HeadSpectra, spectrum
from interp.analysis.statistics import compare
from interp.data.heads import HeadWeights
from interp.data.layout import Grid, Layout
from interp.data.tokens import Segment
from interp.world import scenes

# The font comes with matplotlib; without hinting its letters do not hang on the machine.
STYLE = ("default", {"font.family": "DejaVu Sans", "text.hinting": "no_hinting"})
TOLERANCE = 3.0  # root mean square of what pixels differ, of 255

SEGMENTS = [Segment.SYSTEM, *[Segment.IMAGE] * 4, *[Segment.USER] * 2, *[Segment.RESPONSE] * 3]
NAMES = tuple(s.name for s in SEGMENTS)
WORDS = ("<s>", "a", "b", "c", "d", "What", "?", " red", " $x$", "\n")
LAYOUT = Layout(torch.tensor([s.value for s in SEGMENTS]), (Grid(0, 2, 2, (0.0, 0.0, 8.0, 8.0)),))
PICTURE = Image.linear_gradient("L").resize((8, 8)).convert("RGB")


def waves(*shape: int, start: float = 0.0) -> Tensor:
    """Return numbers in [0, 1] that neither repeat nor hang on a random generator."""
    return ((torch.arange(math.prod(shape)) * 0.7 + start).sin() / 2 + 0.5).reshape(shape)


def drift() -> VisualDrift:
    analysis, view = VisualAnchors(), View(LAYOUT, WORDS, tuple(range(10)), (5, 6, 7, 8, 9))
    patterns = (3 * waves(5, 4, 5, 10)).softmax(-1)
    return analysis.finish({i: analysis.reduce({"pattern": p}, view) for i, p in enumerate(patterns)}, view)


def spectra() -> HeadSpectra:
    q, k, none = waves(3, 4, 8) - 0.5, waves(3, 4, 8, start=1.0) - 0.5, torch.zeros(3, 4)
    return spectrum(lambda layer: HeadWeights(q * (layer + 1), k, q, q.mT, none, none, none, 0.5), [2, 5])


def massive_table() -> MassiveTable:
    where = torch.zeros(4, 3).long()
    value = torch.tensor([[3.0, 2, 1], [900, 5, 4], [950, 6, 5], [40, 30, 20]])
    return MassiveTable(value, where, where, torch.tensor([0.01, 0.5, 0.6, 0.8]), (0, 1, 2, 3), ("a",), 100.0, 1000.0)


def token_saliency() -> TokenSaliency:
    own = waves(2, 3)
    source = waves(2, 3, 4)
    return TokenSaliency(waves(2, 1, 3, 10), own, own * 2, own * 0, source, (0, 1), WORDS, (7, 8, 9), "mean", "row_l2")


SHARES = SegmentShares((3 * waves(4, 2, 4)).softmax(-1), (0, 1, 2, 3))
LATER = SegmentShares((3 * waves(4, 2, 4, start=1.0)).softmax(-1), (0, 1, 2, 3))
COMPARED = compare(waves(60) - 0.2 * (torch.arange(60) % 4 == 0), torch.arange(60) % 4 == 0, resamples=50)
SPREAD = AttentionDistribution(
    waves(3, 4) / 10, 2 * waves(3, 4, start=2.0), waves(3, 4), -waves(3, 4), waves(3) - 1, (3, 4, 5), 5
)
MODALITIES = ModalityImbalances(
    *(waves(3, 4, 6) / (0.1 + waves(3, 4, 6, start=1.0)), waves(3, 4, 6), 0.1 + waves(3, 4, 6, start=1.0)),
    *((0, 1, 2), (6, 7, 8, 9, 10, 11)),
)
TOKENS = TokenImbalances(waves(1, 10) * 2, waves(1, 10), waves(1, 10), waves(10) * 2, (0,), WORDS, "output_norm")
CURVES = PropagationCurves(waves(2, 3, 16), torch.arange(1, 17) / 16, (1, 6), "corrected", "identity", 0)
ACTIVATED = waves(2, 3, 10)
OBSERVED = ObservedPropagation(ACTIVATED, ACTIVATED.mean(-1), ACTIVATED.mean((0, 1)), (0, 1), WORDS)
LENS = LensTable(
    *(torch.zeros(3, 10, 1).long(), torch.zeros(3, 10, 1), (waves(3, 10) + 0.01).log(), torch.zeros(3, 10).long()),
    *(waves(3, 10), (0, 1, 2), tuple(range(10)), WORDS),
)
PARTS = LogitParts(
    *(waves(3, 4, 2) - 0.5, waves(3, 2), waves(3, 2) / 4, waves(2), waves(2), waves(2)), (0, 1, 2), (5, 6), (1, 2)
)
ROOTS = Roots(waves(2, 1, 10), (0, 1), (6,), (1, 2, 3, 4), WORDS, "relevance")
MAPS = SaliencyMaps(waves(2, 1, 10, 10).tril(), (2, 5), WORDS, NAMES, tuple(range(10)), "mean", "none")
ERASED = Erasure(
    (waves(3, 4, 5) + 0.1).log(), (waves(5, start=1.0) + 0.1).log(), (3, 4, 5, 6, 7), tuple("abcde"), "step"
)
RANKED = sensitivity(waves(3, 4, 20) + torch.tensor([0.8, 0, 0, 0])[:, None], waves(3, 4, 30, start=1.0), resamples=50)
ALIKE = HeadSimilarity(waves(3, 4), (0, 1, 2), WORDS, "as_they_are")
SCENE = scenes("test", 1)[0]
SINK_TABLE = object()  # stands for the fixture

DRAWN = {
    "activations.largest": (massive_table(),),
    "anchors.drift": (drift(),),
    "anchors.entropy": (drift(),),
    "anchors.visual_heads": (drift(),),
    "anchors.anchor": (PICTURE, drift(), LAYOUT),
    "budgets.separated": (SinkShares((3 * waves(4, 2, 3)).softmax(-1), (0, 1, 2, 3), (0,)),),
    "budgets.changes": (share_change(SHARES, LATER),),
    "comparison.distributions": (COMPARED,),
    "comparison.hallucination": (COMPARED,),
    "distribution.distribution": (SPREAD,),
    "distribution.distribution_variance": (SPREAD,),
    "distribution.distribution_correlation": (SPREAD,),
    "heatmap.heatmap": (waves(4, 6), "nats"),
    "imbalance.modality": (MODALITIES,),
    "imbalance.modality_by_step": (MODALITIES,),
    "imbalance.tokens": (TOKENS,),
    "overlay.overlay": (PICTURE, waves(4), LAYOUT),
    "pairs.pairs": (waves(10, 10).tril(), "attention", NAMES),
    "propagation.curves": (CURVES, [(6, 2)]),
    "propagation.observed": (OBSERVED,),
    "propagation.observed_by_token": (OBSERVED,),
    "rates.rates": (["before", "after"], [0.5, 0.25], [(0.4, 0.6), (0.1, 0.5)], "accuracy"),
    "readouts.lens": (LENS,),
    "readouts.head_parts": (PARTS,),
    "readouts.layer_parts": (PARTS,),
    "rollout.roots": (ROOTS,),
    "rollout.roots_on_image": (PICTURE, ROOTS, LAYOUT),
    "saliency.saliency_map": (MAPS,),
    "saliency.flow": (MAPS.flow(),),
    "saliency.scores": (token_saliency(),),
    "saliency.sources": (token_saliency(),),
    "scene.scene": (SCENE.image, SCENE.objects),
    "sensitivity.erasure": (ERASED,),
    "sensitivity.first_order": (FirstOrder(waves(3, 4, 5) - 0.5, (0, 1, 2), (3, 4, 5, 6, 7)),),
    "sensitivity.effect_sizes": (RANKED,),
    "sensitivity.strongest": (RANKED,),
    "sensitivity.estimates": (waves(3, 4, 5), waves(3, 4, 5) ** 2),
    "shares.shares": (torch.tensor([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4]]), ("SINK", "IMAGE", "USER")),
    "shares.budget": (SHARES,),
    "signed.signed": (waves(4, 6) - 0.4, "effect"),
    "similarity.similarity": (ALIKE,),
    "sinks.received": (SINK_TABLE,),
    "sinks.massive": (SINK_TABLE,),
    "spectrum.spectrum": (spectra(),),
    "spectrum.spectrum_of_layer": (spectra(), 5),
    "spectrum.spectrum_regimes": (spectra(),),
    "towers.towers": (8 * waves(10, 16) ** 6, WORDS),
    "words.coloured_words": (WORDS, NAMES),
}
"""The arguments of every public function."""
for _path in sorted(Path(__file__).parent.glob("test_*.py")):
    if "\nEXAMPLES" in _path.read_text(encoding="utf-8"):
        DRAWN |= runpy.run_path(str(_path))["EXAMPLES"]


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.mpl_image_compare(style=STYLE, tolerance=TOLERANCE, savefig_kwargs={"dpi": 60})
def test_look(name, sink_table) -> Figure:
    given = [sink_table if g is SINK_TABLE else g for g in DRAWN[name]]
    return public()[name](*given).get_figure(root=True)


def public() -> dict[str, Callable[..., Axes]]:
    """Return every public function of interp.plot that draws one kind of picture, as `module.function`."""
    modules = [importlib.import_module(f"interp.plot.{m.name}") for m in pkgutil.iter_modules(interp.plot.__path__)]
    return {
        f"{module.__name__.rsplit('.', 1)[1]}.{name}": function
        for module in modules
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and inspect.signature(function).return_annotation is Axes
        and name not in {"axes_or_new", "picture"}  # the axes that others draw on; the choice among the others
    }


def test_every_public_function_is_drawn() -> None:
    assert set(DRAWN) == set(public())
