"""SPEAR Fig. 2: attention maps by layer.

The last row of every map emits the answer. One test scene with a question about an absent object, attention averaged over heads, in
the embedded model and in a model of hand-written weights whose sink is known.
"""

import matplotlib.pyplot as plt
from maps import PairMaps, attention_of, draw_maps, segment_legend
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe


def measure_model(setting: Setting) -> PairMaps:
    """Measure the attention of a few layers of the model."""
    from interp.world import scenes

    model, scene = setting.loaded, scenes("test", setting.n, setting.seed)[-1]
    question = next(q for q in scene.questions if q.probe == "adversarial" and q.answer == "No")
    chosen = sorted({round(i * (model.layers - 1) / 3) for i in range(4)})
    return attention_of(model, model.prepare(scene.image, question.text), chosen)


def measure_planted(setting: Setting) -> PairMaps:
    """Measure the attention of the model whose sink was written by hand."""
    from interp.testing.planted import planted_sink

    planted = planted_sink()
    return attention_of(
        planted.model, planted.model.prepare(text="cafebabedeadbeefghijklmnop"), range(planted.model.layers)
    )


def draw(model: PairMaps, planted: PairMaps) -> Figure:
    """Draw the model's layers in one row, those of the planted sink in the other."""
    columns = max(len(model.layers), len(planted.layers))
    figure, axes = plt.subplots(2, columns, figsize=(3.4 * columns, 6.8), layout="constrained")
    for row, maps, name in ((axes[0], model, "trained"), (axes[1], planted, "hand-written")):
        draw_maps(maps, row[: len(maps.layers)], limit=0.16)
        for ax in row[len(maps.layers) :]:
            ax.set_axis_off()
        row[0].set_ylabel(f"{name}\nquery position")
    segment_legend(figure, (*model.segments, *planted.segments))
    return figure


if __name__ == "__main__":
    parts = {"model": Part(PairMaps, measure_model), "planted": Part(PairMaps, measure_planted)}
    recipe("spear_fig2", parts, draw, about=__doc__, n=1)
