"""TAME Fig. 1: attention across layers while a caption is written, with the attention sinks marked.

One captioned test scene; maps are averaged over heads. The marked tokens are the sinks of the conversation.
"""

import matplotlib.pyplot as plt
from maps import PairMaps, attention_of, draw_maps, segment_legend
from matplotlib.figure import Figure
from recipe import Part, Setting, recipe


def measure_maps(setting: Setting) -> PairMaps:
    """Measure the attention of four layers, from first to last."""
    from captions import captioned

    model = setting.loaded
    said = captioned(model, setting.n, setting.seed)[-1]
    return attention_of(model, said.prompt, [0, model.layers // 3, 2 * model.layers // 3, model.layers - 1])


def draw(maps: PairMaps) -> Figure:
    """Draw the four maps side by side."""
    figure, axes = plt.subplots(1, 4, figsize=(13.5, 3.6), layout="constrained")
    draw_maps(maps, axes, limit=0.16)
    segment_legend(figure, maps.segments)
    return figure


if __name__ == "__main__":
    recipe("tame_fig1", {"maps": Part(PairMaps, measure_maps)}, draw, about=__doc__, n=1)
