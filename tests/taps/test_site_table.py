from interp.data.tokens import EMITTING, EVERY, LAST, Segment, tokens
from interp.interventions.attention import MaskAttention
from interp.interventions.function import Apply
from interp.taps.site_table import site_table
from interp.taps.spec import PassSpec

LAYERS = {"decoder": 4, "vision": 2}


def test_only_observed_layers_have_a_record():
    assert site_table(PassSpec(), LAYERS) == {}
    spec = PassSpec((MaskAttention(Segment.USER, layers=(1,)),), reads=frozenset({("vision", "pattern")}))
    assert set(site_table(spec, LAYERS)) == {("decoder", 1), ("vision", 0), ("vision", 1)}


def test_interventions_act_in_the_order_in_which_they_were_given():
    one, other = (Apply("z", lambda value, here: value, layers=(2,)) for _ in range(2))
    table = site_table(PassSpec((one, MaskAttention(Segment.USER), other)), LAYERS)
    assert table["decoder", 2].sites["z"].acting == (0, 2)
    assert table["decoder", 2].sites["attn_scores"].acting == (1,)
    assert table["decoder", 0].sites.keys() == {"attn_scores"}


def test_rows_are_those_of_everything_that_reads_or_changes_scores():
    pattern = frozenset({("decoder", "pattern")})
    spec = PassSpec((MaskAttention(Segment.USER, EMITTING, layers=(1,)),), reads=pattern, rows=LAST)
    table = site_table(spec, LAYERS)
    assert table["decoder", 0].rows == {LAST}
    assert table["decoder", 1].rows == {LAST, EMITTING}
    assert site_table(PassSpec(reads=pattern), LAYERS)["decoder", 0].rows is None
    streams = PassSpec(reads=frozenset({("decoder", "resid_post")}))
    assert site_table(streams, LAYERS)["decoder", 0].rows == frozenset()


def test_gradients_begin_and_stay_local_from_the_first_layer_that_is_read():
    spec = PassSpec(
        reads=frozenset({("decoder", "pattern")}),
        layers=frozenset({2, 3}),
        rows=tokens(Segment.RESPONSE),
        gradient=True,
        begins=frozenset({"pattern"}),
        local=True,
    )
    table = site_table(spec, LAYERS)
    assert [("decoder", i) in table for i in range(4)] == [False, False, True, True]
    assert table["decoder", 2].sites["pattern"].begins
    assert table["decoder", 2].local


def test_scores_may_be_overwritten_unless_an_intervention_holds_them():
    scores = frozenset({("decoder", "attn_scores")})
    assert site_table(PassSpec(reads=scores, copies=True), LAYERS)["decoder", 0].frees_scores
    assert not site_table(PassSpec(reads=scores), LAYERS)["decoder", 0].frees_scores
    held = PassSpec((MaskAttention(EVERY, layers=(0,)),), reads=scores, copies=True)
    assert [site_table(held, LAYERS)["decoder", i].frees_scores for i in (0, 1)] == [False, True]
