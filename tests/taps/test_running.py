import re
import warnings

import pytest
import torch

from interp.data.layout import Layout
from interp.data.tokens import EMITTING, EVERY, LAST, Segment, tokens
from interp.interventions.attention import MaskAttention, ScalePattern, ScaleScores
from interp.interventions.function import Apply
from interp.taps import audit as audit_file
from interp.taps import masks as masks_file
from interp.taps.audit import NothingChanged
from interp.taps.running import Pass, run_pass, running
from interp.taps.site_table import site_table
from interp.taps.spec import PassSpec
from interp.taps.state import Conversations, PassState

_, SYSTEM, _, USER, RESPONSE = Segment
LONG, SHORT = Layout(torch.tensor([1, 3, 3, 3])), Layout(torch.tensor([1, 3]))
CPU = torch.device("cpu")


PARTS = {"decoder": 8, "vision": 4}


def conversation(*interventions, layouts=(LONG,), **settings):
    spec = PassSpec(tuple(interventions), **settings)
    return Pass(PassState(Conversations(layouts)), spec, site_table(spec, PARTS))


# ----------------------------------------------------------------------------------------------------------------- roles


def test_shorter_conversations_are_padded_on_the_left():
    roles = Conversations((LONG, SHORT))
    assert roles.mask(tokens(SYSTEM)).tolist() == [[True, False, False, False], [False, False, True, False]]
    assert roles.mask(EVERY).tolist() == [[True] * 4, [False, False, True, True]]
    assert roles.mask(tokens(0)).tolist() == [[True, False, False, False], [False, False, True, False]]
    assert roles.mask(LAST).tolist() == [[False, False, False, True]] * 2


def test_conversations_grow_with_the_cache():
    roles = Conversations((LONG, SHORT))
    roles.advance(2, 0, 4, CPU)
    assert roles.mask(EMITTING).tolist() == [[False, False, False, True]] * 2
    roles.advance(2, 4, 1, CPU)
    assert roles.mask(EMITTING).tolist() == [[False, False, False, True, True]] * 2
    assert roles.mask(tokens(RESPONSE)).tolist() == [[False] * 4 + [True]] * 2
    assert roles.mask(tokens(SYSTEM)).tolist() == [
        [True, False, False, False, False],
        [False, False, True, False, False],
    ]


def test_beams_of_one_conversation_share_its_roles():
    roles = Conversations((LONG, SHORT))
    roles.advance(6, 0, 4, CPU)
    rows = roles.mask(tokens(SYSTEM)).tolist()
    assert rows[0] == rows[1] == rows[2] == [True, False, False, False]
    assert rows[3] == rows[4] == rows[5] == [False, False, True, False]


WHICH = [tokens(SYSTEM), tokens(RESPONSE), EMITTING, EVERY, LAST, tokens([-2]), tokens([7]), EMITTING - LAST]


@pytest.mark.parametrize("site", ["pattern", "v", "z", "resid_post"])
def test_what_is_foreseen_is_what_comes(monkeypatch, site):
    monkeypatch.setattr(masks_file, "FORESEEN", 5)
    now = conversation(layouts=(LONG, SHORT))
    for past in (0, 4, 5, 6, 7, 8, 9, 10, 11, 6, 7, 20):  # beyond the horizon, and a cache that was cut back
        new = 4 if past == 0 else 1
        length = past + new
        now.advance(2, past, new, CPU)
        shape = {"pattern": (2, 1, new, length), "v": (2, length, 1, 1), "z": (2, new, 1, 1)}.get(site, (2, new, 1))
        here = now.here("decoder", site, 0, torch.zeros(shape))
        for which in WHICH:
            expected = torch.zeros(2, length, dtype=torch.bool)
            for row, layout in zip(expected, (LONG, SHORT), strict=True):
                own, far = length - 4 + len(layout), which == tokens([7])
                row[4 - len(layout) :] = which.mask(layout.grown_to(max(own, 8) if far else own))[:own]
            if site != "v":
                assert here.queries(which).flatten().tolist() == expected[:, past:].flatten().tolist()
            if site in ("pattern", "v"):
                assert here.keys(which).flatten().tolist() == expected.flatten().tolist()
        if site == "pattern":
            every = here.keys(EVERY)
            causal = torch.ones(new, length).tril(past).bool()
            assert torch.equal(here.visible, every & causal)


# -------------------------------------------------------------------------------------------------------- what is looked at


def test_a_site_is_observed_when_something_reads_or_changes_it():
    now = conversation(MaskAttention(USER, layers=(1,)), reads=frozenset({("decoder", "z")}), layers=frozenset({0}))
    assert now.observes("decoder", "z", 0)
    assert not now.observes("decoder", "z", 1)
    assert not now.observes("vision", "z", 0)
    assert now.observes("decoder", "attn_scores", 1)
    assert not now.observes("decoder", "attn_scores", 0)


def rows(now, queries=4, part="decoder"):
    found = now.eager_rows(now.table.get((part, 0)), queries)
    return None if found is None else found.tolist()


def test_only_the_rows_that_are_observed_are_explicit():
    assert rows(conversation()) == []
    assert rows(conversation(reads=frozenset({("decoder", "z")}))) == []
    pattern = frozenset({("decoder", "pattern")})
    assert rows(conversation(reads=pattern)) is None
    assert rows(conversation(reads=pattern, rows=LAST)) == [3]
    assert rows(conversation(MaskAttention(USER, queries=[1]), reads=pattern, rows=LAST)) == [1, 3]
    assert rows(conversation(MaskAttention(USER), reads=pattern, rows=LAST)) is None
    assert rows(conversation(MaskAttention(USER, queries=[1], layers=(5,)))) == []
    assert rows(conversation(reads=frozenset({("vision", "pattern")})), part="vision") is None


def test_a_batch_computes_the_rows_that_any_sample_needs():
    now = conversation(MaskAttention(USER, queries=SYSTEM), layouts=(LONG, SHORT))
    assert rows(now) == [0, 2]


def test_while_decoding_the_one_new_row_is_all_rows_or_none():
    now = conversation(MaskAttention(USER, queries=EMITTING))
    now.advance(1, 4, 1, CPU)
    assert rows(now, 1) is None
    now = conversation(MaskAttention(USER, queries=USER))
    now.advance(1, 4, 1, CPU)
    assert rows(now, 1) == []


# ------------------------------------------------------------------------------------------------------------------ audit


def test_the_audit_says_where_and_how_far():
    value = torch.tensor([[0.5, 0.5, 0, 0], [0.25, 0.25, 0.25, 0.25], [0, 1, 0, 0], [0, 0, 0, 1]]).expand(1, 2, 4, 4)
    now = conversation(ScalePattern([0], 3.0, queries=[0]), ScalePattern([1], 1.0))
    for layer in (2, 5):
        now.visit("decoder", "pattern", layer, value)
    with pytest.warns(NothingChanged):
        now.close()
    first, second = now.audit
    assert (first.calls, first.layers, first.largest, first.row_sum) == (2, {2, 5}, 1.0, 1.0)
    assert first.mean == pytest.approx(1 / 16)
    assert (second.calls, second.largest, second.mean) == (2, 0.0, 0.0)


def test_the_audit_of_many_calls_is_that_of_each(monkeypatch):
    monkeypatch.setattr(audit_file, "HELD_ENTRIES", 40)
    torch.manual_seed(0)
    now = conversation(ScalePattern(USER, 1.7))
    differences, off = [], []
    for step in range(6):
        now.advance(1, 4 + step, 1, CPU)
        for layer in range(2):
            value = torch.rand(1, 2, 1, 5 + step).softmax(-1)
            after = now.visit("decoder", "pattern", layer, value)
            differences.append((after - value).abs().flatten())
            off.append((after.sum(-1) - 1).abs().max())
    now.close()
    every = torch.cat(differences)
    assert (now.audit[0].calls, now.audit[0].layers) == (12, {0, 1})
    assert now.audit[0].largest == pytest.approx(float(every.max()))
    assert now.audit[0].mean == pytest.approx(float(every.mean()))
    assert now.audit[0].row_sum == pytest.approx(float(max(off)), rel=1e-5)


def test_changes_at_one_site_apply_in_order():
    def plus(value, here):
        return value + 1

    def times(value, here):
        return value * 2

    now = conversation(Apply("z", plus), Apply("z", times))
    assert now.visit("decoder", "z", 0, torch.zeros(1, 4, 1, 1)).unique().tolist() == [2]
    now = conversation(Apply("z", times), Apply("z", plus))
    assert now.visit("decoder", "z", 0, torch.zeros(1, 4, 1, 1)).unique().tolist() == [1]


def test_a_change_that_is_never_reached_is_warned_of():
    change = MaskAttention(USER, layers=(3,))
    with (
        pytest.warns(NothingChanged, match=re.escape(f"{change} changed nothing: it was never reached")),
        run_pass(conversation(change)),
    ):
        pass


def test_a_change_that_leaves_everything_as_it_was_is_warned_of():
    change = ScaleScores(USER, 1.0)
    now = conversation(change)
    for layer in range(2):
        now.visit("decoder", "attn_scores", layer, torch.randn(1, 2, 4, 4))
    message = f"{change} changed nothing: its 2 calls left every value as it was"
    with pytest.warns(NothingChanged, match=re.escape(message)):
        now.close()


def test_a_change_that_acts_is_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with run_pass(conversation(ScaleScores(USER, 2.0))) as now:
            now.visit("decoder", "attn_scores", 0, torch.randn(1, 2, 4, 4))


# ------------------------------------------------------------------------------------------------------------------ passes


def test_passes_nest_and_give_way():
    outer, inner = conversation(), conversation()
    assert running.get() is None
    with run_pass(outer):
        with run_pass(inner):
            assert running.get() is inner
        assert running.get() is outer
    assert running.get() is None


def test_a_pass_that_fails_is_no_longer_the_running_one():
    with pytest.raises(ArithmeticError, match="inside"), run_pass(conversation(ScaleScores(USER, 1.0))):
        raise ArithmeticError("inside")
    assert running.get() is None


def test_other_parts_have_places_but_no_roles():
    now = conversation(
        Apply("pattern", lambda value, here: value, part="vision"), reads=frozenset({("vision", "pattern")})
    )
    here = now.here("vision", "pattern", 3, torch.zeros(1, 2, 5, 7))
    assert (here.part, here.layer, here.key_span, here.rows.tolist(), here.roles) == (
        "vision",
        3,
        (0, 7),
        [0, 1, 2, 3, 4],
        None,
    )
    seen = []
    now.reader = lambda value, here: seen.append((here.part, here.layer, tuple(value.shape))) or value
    now.visit("vision", "pattern", 3, torch.zeros(1, 2, 5, 7))
    assert seen == [("vision", 3, (1, 2, 5, 7))]


def test_what_one_layer_leaves_another_finds():
    def leave(value, here):
        here.state.setdefault("seen", []).append(here.layer)
        return value + 1

    now = conversation(Apply("z", leave))
    now.visit("decoder", "z", 0, torch.zeros(1, 4, 1, 1))
    now.visit("decoder", "z", 1, torch.zeros(1, 4, 1, 1))
    assert now.state.scratch == {"seen": [0, 1]}
    assert conversation().state.scratch == {}
