import pytest
import torch

import interp
from interp.data.tokens import Segment
from interp.methods.sid import Sid, visible_count

STRONG = Sid(alpha=4.0, beta=0.0, rank=2, layer=1)
NEUTRAL = Sid(alpha=0.0, beta=0.0, rank=2, layer=1)


def test_it_conforms(seeing, conforms):
    conforms(seeing, STRONG, NEUTRAL, first=False)


def test_it_is_two_whole_passes_a_token(seeing, picture, by_hand, uncached, two_passes, set_apart):
    """The second pass by hand: ranks of the head mean of layer 0's rows, and a mask in layer 1, row by row."""
    prompt = seeing.prepare(picture(), "What is there?")
    image, length = list(prompt.layout.positions(Segment.IMAGE)), len(prompt)
    seen = {}

    def keep(layer, a):
        seen[layer] = a[0].mean(0)
        return a

    def hide(layer, z):
        if layer == 0:
            return z
        z = z.clone()
        for row in range(z.shape[2]):
            looks = seen[0][max(row, length - 1), image]
            order = looks.argsort().tolist()
            for place in order[3:]:
                z[:, :, row, image[place]] = -1e30
        return z

    def hidden(ids):
        return by_hand(seeing, prompt.with_response(ids) if ids else prompt, hide, keep)[0, -1]

    streams = uncached(seeing, seeing.inputs([prompt])), hidden
    two_passes(seeing, prompt, Sid(2.0, 0.05, rank=3, layer=1), streams, set_apart(2.0, 0.05))


def test_the_published_number_is_a_share_of_the_image():
    assert [visible_count(n, None) for n in (576, 64, 4, 2)] == [100, 11, 1, 1]
    assert visible_count(64, 5) == 5


def test_the_default_leaves_a_sixth_of_the_image(model_of, picture):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?")
    share = visible_count(len(prompt.layout.positions(Segment.IMAGE)), None)
    options = {"max_new_tokens": 8, "min_new_tokens": 8}
    by_share, by_rank = (
        interp.generate(model, prompt, Sid(4.0, 0.0, rank=r, layer=1), **options).ids for r in (None, share)
    )
    assert by_share == by_rank


def test_nothing_to_hide_is_refused(model_of, picture):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is there?")
    assert "layer=2 hides nothing: it has layers 0..1; give one of 1..1" in Sid(layer=2).refusal(model)
    assert Sid().refusal(model) is None
    with pytest.raises(
        ValueError, match="keeps 16 image tokens visible, and a prompt has only 16, so nothing is hidden"
    ):
        interp.generate(model, prompt, Sid(rank=16, layer=1))
    for settings in ({"rank": 0}, {"layer": 0}):
        with pytest.raises(ValueError, match="rank and layer are at least 1, got"):
            Sid(**settings)


def test_ties_hide_no_more_than_they_should():
    """Equal attention, as bfloat16 often has it: exactly `rank` tokens stay."""
    from interp.data.layout import Grid, Layout
    from interp.methods.sid import HideImage, RankImage
    from interp.taps.running import Pass
    from interp.taps.state import Conversations, PassState

    layout = Layout(torch.tensor([1, 2, 2, 2, 2, 3]), (Grid(0, 2, 2, None),))
    now = Pass(PassState(Conversations((layout,))))
    now.advance(1, 0, 6, torch.device("cpu"))
    pattern = torch.full((1, 2, 6, 6), 1 / 6)
    RankImage(3, (0,))(pattern, now.here("decoder", "pattern", 0, pattern))
    hidden, rows = now.state.scratch[HideImage]
    assert hidden[0, 0].tolist() == [False, False, False, False, True, False]
    assert rows.tolist() == [5]
