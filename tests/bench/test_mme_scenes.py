"""MME questions about drawn scenes."""

import numpy as np

from interp.bench.base import build_benchmark
from interp.world import scenes
from interp.world.questions import view
from interp.world.text import NUMBERS, coloured, region, with_article


def test_questions_about_scenes_come_in_pairs_and_are_true():
    bench = build_benchmark("mme", n=25, seed=2)
    about = scenes("test", 25, 2)
    samples = bench.samples()
    assert list(dict.fromkeys(s.part for s in samples)) == ["existence", "count", "position", "color"]
    for yes, no in zip(samples[::2], samples[1::2], strict=True):
        assert (yes.truth["answer"], no.truth["answer"], yes.group, yes.part) == ("yes", "no", no.group, no.part)
        assert yes.question != no.question
        seen = view(about[int(yes.image)].place, about[int(yes.image)].objects)
        true = {
            "existence": [f"Is there {with_article(g.name)} in the image?" for g in seen.groups],
            "count": [
                f"Are there {NUMBERS[g.count]} " if g.count > 1 else f"Is there one {g.name} in the image?"
                for g in seen.groups
            ],
            "position": [f"Is there {with_article(o.name)} {region(o)}?" for o in seen.singles],
            "color": [f"Is there {coloured(o)} in the image?" for o in seen.singles],
        }[yes.part]
        assert any(yes.question.startswith(t) for t in true)
        assert not any(no.question.startswith(t) for t in true if yes.part != "count")
    np.testing.assert_array_equal(np.asarray(bench.image(samples[0])), about[0].pixels)
    assert {s.part for s in build_benchmark("mme", n=5, tasks=("color",)).samples()} == {"color"}
