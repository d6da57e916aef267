import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import interp
from interp.analysis.base import on_capture
from interp.analysis.budget import Budget
from interp.analysis.sinks import Sinks, SinkTable
from interp.data.prompt import CAPTURE_AXES, Capture
from interp.data.results import Samples
from interp.data.tokens import EMITTING, LAST, Segment
from interp.families.base import family_names
from interp.interventions.attention import ScalePattern
from interp.interventions.function import Apply
from interp.passes import plan
from interp.passes.capture import capture
from interp.passes.measure import measure
from interp.passes.memory import Estimate
from interp.passes.target import Position


@pytest.fixture
def qwen(model_of, picture):
    model = model_of("qwen2_vl")
    return model, model.prepare(picture(), "What is this?", response="A chair.")


# --------------------------------------------------------------------------------------------------------- what is captured


@pytest.mark.parametrize("kind", family_names())
def test_every_site_has_the_axes_it_promises(model_of, picture, kind):
    model = model_of(kind)
    prompt = model.prepare(None if model.family.image_token is None else picture(), "What is this?", response="It")
    got = capture(model, prompt, want=set(model.sites), grad=set(model.sites) - {"logits"}, target=0)
    sizes = {
        "layer": model.layers, "head": model.heads, "kv_head": model.kv_heads, "token": len(prompt), "query": len(prompt),
        "key": len(prompt), "dim": model.dim, "head_dim": model.head_dim, "vocab": got.logits.shape[-1],
    }  # fmt: skip
    for site in model.sites:
        assert got[site].shape == tuple(sizes[a] for a in CAPTURE_AXES[site].split()), site
        if site != "logits":
            assert got[f"{site}_grad"].shape == got[site].shape, site
            assert got[f"{site}_grad"].abs().max() > 0, site
    assert got.tokens == prompt.tokens
    assert got.queries == tuple(range(len(prompt)))


def test_layers_and_rows_can_be_chosen(qwen):
    model, prompt = qwen
    whole = capture(model, prompt, want={"pattern", "v"})
    some = capture(model, prompt, want={"pattern", "v"}, layers=[1], queries=[-1, 2, 0])
    assert some.layers == (1,)
    assert some.queries == (0, 2, len(prompt) - 1)
    torch.testing.assert_close(some.v, whole.v[1:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(some.pattern, whole.pattern[1:][:, :, [0, 2, -1]], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(capture(model, prompt, layers=[1, 0, 1]).pattern, whole.pattern, rtol=0, atol=0)


def test_the_type_can_be_chosen(qwen):
    model, prompt = qwen
    sites = {"pattern", "resid_post", "logits"}
    whole, half = capture(model, prompt, want=sites), capture(model, prompt, want=sites, dtype=torch.float16)
    for site in sites:
        assert half[site].dtype == torch.float16
        torch.testing.assert_close(half[site].float(), whole[site], rtol=1e-2, atol=1e-2)


def test_the_device_can_be_chosen(qwen):
    model, prompt = qwen
    kept = capture(model, prompt, want={"pattern", "logits", "vision.pattern"}, device="meta")
    assert {a.device.type for a in kept.arrays.values()} == {"meta"}


def test_what_is_kept_is_a_copy(qwen):
    model, prompt = qwen
    one = capture(model, prompt, want={"resid_pre", "resid_post", "v"})
    before = one.resid_pre.clone()
    one.resid_post.zero_()
    torch.testing.assert_close(one.resid_pre, before, rtol=0, atol=0)


def test_changes_act_in_a_capture(qwen):
    model, prompt = qwen
    change = ScalePattern(Segment.IMAGE, 0.0, layers=[0])
    got = capture(model, prompt, want={"pattern", "logits"}, interventions=[change])
    image = prompt.layout.mask(Segment.IMAGE)
    assert (got.pattern[0][..., image] == 0).all()
    assert (got.pattern[1][..., image] > 0).any()
    assert (got.logits - capture(model, prompt, want={"logits"}).logits).abs().max() > 1e-4


# --------------------------------------------------------------------------------------------------------------- targets


def test_one_target_can_be_named_in_three_ways(qwen):
    model, prompt = qwen
    at = prompt.layout.positions(Segment.RESPONSE)[1]
    token = int(prompt.inputs["input_ids"][0, at])

    def loss(logits):
        return -logits[at - 1].log_softmax(-1)[token]

    one, two, three, four = (
        capture(model, prompt, grad={"pattern"}, target=t).pattern_grad
        for t in (1, Position(at), loss, Position(at, token))
    )
    for other in (two, three, four):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(capture(model, prompt, grad={"pattern"}, target=1 - 8).pattern_grad, one, rtol=0, atol=0)


def test_the_token_that_would_come_next_can_be_a_target(qwen):
    model, prompt = qwen
    got = capture(model, prompt, grad={"pattern"}, target=Position(len(prompt), 5))
    assert got.pattern_grad[:, :, -1].abs().max() > 0
    assert got.target == f"Position(at={len(prompt)}, token=5)"


def test_gradients_are_linear_in_the_loss(qwen):
    model, prompt = qwen
    one, two = (capture(model, prompt, grad={"z"}, target=lambda x, f=f: f * x[-1, 7]).z_grad for f in (1.0, 2.0))
    torch.testing.assert_close(two, 2 * one)


def test_a_gradient_is_the_slope(qwen):
    """A finite difference along the gradient: an oracle without autograd."""
    model, prompt = qwen
    kept = capture(model, prompt, want={"z"}, grad={"z"}, target=0)
    at = prompt.layout.positions(Segment.RESPONSE)[0]
    direction = torch.randn(1, *kept.z[0].shape)

    def loss(step):
        change = Apply("z", lambda value, here: value + step * direction, layers=[0])
        logits = capture(model, prompt, want={"logits"}, interventions=[change]).logits.double()
        return -logits[at - 1].log_softmax(-1)[prompt.inputs["input_ids"][0, at]]

    slope = (loss(1e-3) - loss(-1e-3)) / 2e-3
    torch.testing.assert_close(slope.float(), (kept.z_grad[0] * direction[0]).sum(), rtol=2e-2, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"grad": {"pattern"}},
            ValueError,
            r"gradients need a target: a response token \(target=0\), interp.Position\(at\), or a function",
        ),
        ({"target": 0}, ValueError, r"a target was given but no gradient asked for; add grad=\{'pattern'\}"),
        ({"grad": {"pattern"}, "target": 8}, IndexError, r"target 8 is outside the reply of 8 tokens \(0..7\)"),
        ({"grad": {"pattern"}, "target": -9}, IndexError, "target -9 is outside the reply"),
        (
            {"grad": {"pattern"}, "target": Position(0)},
            IndexError,
            "position 0 cannot be a target in a conversation of",
        ),
        ({"grad": {"pattern"}, "target": Position(9999)}, IndexError, "position 9999 cannot be a target .*: give 1.."),
        (
            {"grad": {"pattern"}, "target": lambda x: x[-1]},
            ValueError,
            "a target function returns one number computed from the logits, got tensor",
        ),
        (
            {"grad": {"pattern"}, "target": lambda x: 3.0},
            ValueError,
            "a target function returns one number computed from the logits, got 3.0",
        ),
        (
            {"grad": {"pattern"}, "gradient": "position", "target": 0},
            ValueError,
            "gradient='position' is of every response token: .* and no target",
        ),
        ({"gradient": "both"}, ValueError, "gradient is 'full' or 'position', got 'both'"),
        ({"want": {"patern"}}, ValueError, r"want: no site 'patern' \(did you mean pattern\?\); sites: resid_pre, q, "),
        ({"grad": {"logits"}, "target": 0}, ValueError, "has no site logits to read"),
        ({"grad": {"vision.pattern"}, "target": 0}, ValueError, "has no site vision.pattern to read"),
        ({"layers": [2]}, ValueError, r"layers \[2\] are out of range: .* has layers 0..1"),
        ({"layers": [-1]}, ValueError, r"layers \[-1\] are out of range"),
        ({"layers": []}, ValueError, r"layers \[\] are out of range"),
        ({"queries": []}, ValueError, r"queries=tokens\(\[\]\) take no token of this prompt"),
        ({"queries": [999]}, IndexError, r"positions \[999\] are outside this conversation"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_captured_is_refused(qwen, settings, error, message):
    with pytest.raises(error, match=message):
        capture(*qwen, **settings)


def test_a_response_target_needs_a_reply(model_of, picture):
    model = model_of("llava")
    prompt = model.prepare(picture(), "What is this?")
    with pytest.raises(
        ValueError,
        match=r"the target is a response token but the prompt has no reply; prompt.with_response\(reply\) adds one",
    ):
        capture(model, prompt, grad={"pattern"}, target=0)
    with pytest.raises(ValueError, match=r"gradient='position' is of every response token: give a prompt with a reply"):
        capture(model, prompt, grad={"pattern"}, gradient="position")


# ---------------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("kind", ["llava", "qwen2_vl", "gpt2", "gpt_neox"])
@pytest.mark.parametrize("settings", [{}, {"queries": EMITTING}, {"layers": [0]}, {"dtype": torch.float16}], ids=str)
def test_the_estimate_of_what_is_kept_is_exact(model_of, picture, kind, settings):
    model = model_of(kind)
    prompt = model.prepare(None if model.family.image_token is None else picture(), "What is this?", response="It")
    more = {"want": set(model.sites), "grad": {"pattern", "z"}, "target": 0, **settings}
    told = capture(model, prompt, **more, estimate=True)
    kept = capture(model, prompt, **more)
    assert told.kept == sum(a.numel() * a.element_size() for a in kept.arrays.values())
    assert told.during >= told.kept


def test_an_estimate_says_itself_in_words(qwen):
    told = capture(*qwen, estimate=True)
    assert told.available > 2**20
    assert "keeps 0.00 GiB, holds about 0.00 GiB during the pass, " in str(told)
    assert (
        str(Estimate(2**30, 2**31, 2**34)) == "keeps 1.00 GiB, holds about 2.00 GiB during the pass, 16.0 GiB are free"
    )


def test_more_than_there_is_is_refused_with_a_remedy(qwen, monkeypatch):
    monkeypatch.setattr(plan, "available", lambda device: 1000)
    for verb in (lambda: capture(*qwen), lambda: measure(*qwen, Budget())):
        with pytest.raises(
            MemoryError,
            match=r"this pass keeps .* are free. Ask for fewer rows \(queries=interp.EMITTING\), fewer layers",
        ):
            verb()
    assert capture(*qwen, estimate=True).available == 1000


# ------------------------------------------------------------------------------------------------------------- bad numbers


@pytest.mark.parametrize(
    ("site", "value", "kind"), [("resid_mid", float("nan"), "NaN"), ("z", float("inf"), "infinity")]
)
def test_numbers_that_are_none_are_named_with_site_and_layer(qwen, site, value, kind):
    change = Apply(site, lambda x, here: x + value, layers=[1])
    with pytest.raises(FloatingPointError, match=f"{kind} in {site} of layer 1; try dtype='float32'"):
        capture(*qwen, want={site}, interventions=[change])


def test_a_bad_gradient_is_named(qwen):
    with pytest.raises(FloatingPointError, match=r"NaN in pattern_grad of layer 1"):
        capture(*qwen, want=set(), grad={"pattern"}, target=lambda x: (x[-1, 0] - x[-1, 0]).sqrt() * 0)


# ------------------------------------------------------------------------------------------------------------ other parts


def test_the_vision_tower_can_be_looked_into(model_of, picture):
    model = model_of("llava")
    got = capture(model, model.prepare(picture(), "What is this?"), want={"vision.pattern", "vision.attn_scores"})
    assert got["vision.pattern"].shape == (3, 4, 17, 17)  # 3 layers, 4 × 4 patches and the class token
    torch.testing.assert_close(got["vision.pattern"].sum(-1), torch.ones(3, 4, 17))
    torch.testing.assert_close(got["vision.attn_scores"].softmax(-1), got["vision.pattern"])


def test_decoder_layers_do_not_choose_among_the_tower_s(model_of, picture):
    model = model_of("llava")
    got = capture(model, model.prepare(picture(), "What is this?"), want={"vision.pattern", "pattern"}, layers=[1])
    assert len(got["vision.pattern"]) == 3
    assert len(got.pattern) == 1


def test_two_images_are_two_entries(model_of, picture):
    model = model_of("llava")
    prompt = model.prepare([picture(seed=0), picture(seed=1)], "What is this?")
    both = capture(model, prompt, want={"vision.pattern"})["vision.pattern"]
    assert both.shape == (3, 2, 4, 17, 17)
    alone = capture(model, model.prepare(picture(seed=1), "What is this?"), want={"vision.pattern"})["vision.pattern"]
    torch.testing.assert_close(both[:, 1], alone)


def test_the_q_former_s_look_at_the_image(model_of, picture):
    model = model_of("instructblip")
    prompt = model.prepare(picture(), "What is this?")
    got = capture(model, prompt, want={"cross.pattern", "qformer.pattern", "vision.pattern"})
    queries, patches = len(prompt.layout.positions(Segment.IMAGE)), 17
    layers = [
        m.taps
        for m in model.module.modules()
        if "taps" in dict(m.named_children()) and getattr(m.taps, "part", "") == "cross"
    ]
    assert got["cross.pattern"].shape == (len(layers), 4, queries, patches)
    assert got["qformer.pattern"].shape[-1] > queries  # the queries, and the question they have read
    for part in ("cross", "qformer", "vision"):
        pattern = got[f"{part}.pattern"]
        torch.testing.assert_close(pattern.sum(-1), torch.ones(pattern.shape[:-1]))


def test_other_parts_come_in_the_type_that_was_asked_for(model_of, picture):
    model = model_of("llava")
    got = capture(model, model.prepare(picture(), "Why?"), want={"vision.pattern"}, dtype=torch.bfloat16)
    assert got["vision.pattern"].dtype == torch.bfloat16


def test_windows_of_different_size_are_kept_one_by_one(model_of, picture):
    model = model_of("qwen2_5_vl")
    got = capture(model, model.prepare(picture(60, 90), "Why?"), want={"vision.pattern"})
    assert got.arrays
    for name, pattern in got.arrays.items():
        assert name.startswith("vision.pattern")
        torch.testing.assert_close(pattern.sum(-1), torch.ones(pattern.shape[:-1]))


# -------------------------------------------------------------------------------------------------------------- measuring


def test_measuring_gives_what_a_capture_gives_bit_for_bit(qwen):
    model, prompt = qwen
    analyses = (Sinks(), Budget())
    table, shares = measure(model, prompt, *analyses)
    kept = capture(model, prompt, want={"pattern", "resid_post"})
    other = on_capture(Sinks(), kept)
    for name in SinkTable.axes():
        torch.testing.assert_close(getattr(table, name), getattr(other, name), rtol=0, atol=0)
    torch.testing.assert_close(shares.share, on_capture(Budget(), kept).share, rtol=0, atol=0)


def test_measuring_under_changes(qwen):
    model, prompt = qwen
    shares = measure(model, prompt, Budget(), interventions=[ScalePattern(Segment.IMAGE, 0.0, queries=EMITTING)])
    assert (shares.share[..., 1] == 0).all()


def test_one_analysis_returns_its_result_several_a_tuple(qwen):
    assert isinstance(measure(*qwen, Sinks()), SinkTable)
    assert [type(r).__name__ for r in measure(*qwen, Sinks(), Budget())] == ["SinkTable", "SegmentShares"]
    with pytest.raises(
        ValueError, match=r"measure needs at least one analysis, for example interp.analysis.sinks.Sinks\(\)"
    ):
        measure(*qwen)


def test_measuring_holds_one_layer_at_a_time(qwen, monkeypatch):
    """No layer's arrays are alive when the next layer's are reduced."""
    import gc
    import weakref

    model, prompt = qwen
    alive = []
    reduce = Sinks.reduce

    def watch(self, values, view):
        gc.collect()
        alive.append([r() is not None for r in seen])
        seen.append(weakref.ref(values["resid_post"]))
        return reduce(self, values, view)

    seen: list = []
    monkeypatch.setattr(Sinks, "reduce", watch)
    measure(model, prompt, Sinks())
    assert alive == [[], [False]]


def test_several_prompts_are_several_samples(model_of, picture):
    model = model_of("llava")
    prompts = [model.prepare(picture(seed=i), "What is this?", response="It") for i in range(2)]
    found = measure(model, prompts, Budget(), progress=False)
    assert isinstance(found, Samples)
    for sample, prompt in zip(found, prompts, strict=True):
        torch.testing.assert_close(sample.share, measure(model, prompt, Budget()).share, rtol=0, atol=0)


# ----------------------------------------------------------------------------------------------------------------- saving


def test_a_capture_survives_being_saved(qwen, tmp_path):
    model, prompt = qwen
    kept = capture(
        model, prompt, want={"pattern", "resid_post", "vision.pattern"}, grad={"pattern"}, target=0, queries=LAST
    )
    again = Capture.load(kept.save(tmp_path / "c.safetensors"))
    for name in ("pattern", "pattern_grad", "resid_post", "vision.pattern"):
        torch.testing.assert_close(again[name], kept[name], rtol=0, atol=0)
    assert again.layout.segment.tolist() == kept.layout.segment.tolist()
    assert again.layout.grids == kept.layout.grids
    for name in ("tokens", "ids", "layers", "queries", "target", "model"):
        assert getattr(again, name) == getattr(kept, name), name
    assert dict(again.sizes) == dict(kept.sizes)


def test_a_saved_capture_is_measured_like_the_one_that_was_kept(qwen, tmp_path):
    kept = capture(*qwen, want={"pattern", "resid_post"})
    again = Capture.load(kept.save(tmp_path / "c.safetensors"))
    torch.testing.assert_close(on_capture(Budget(), again).share, on_capture(Budget(), kept).share, rtol=0, atol=0)


def test_only_the_array_that_is_asked_for_is_read(qwen, tmp_path, monkeypatch):
    from interp.data.storage import StoredArrays

    path = capture(*qwen, want={"pattern", "resid_post", "z"}).save(tmp_path / "c.safetensors")
    again, read = Capture.load(path), []
    real = StoredArrays.__getitem__
    monkeypatch.setattr(StoredArrays, "__getitem__", lambda self, name: read.append(name) or real(self, name))
    assert again.z.shape[0] == 2
    assert read == ["z"]


def test_what_was_not_captured_is_asked_for(qwen):
    kept = capture(*qwen, want={"pattern"})
    with pytest.raises(
        AttributeError, match=r"z was not captured; this capture has pattern. Ask for it: capture\(..., want=\{'z'\}\)"
    ):
        kept.z  # noqa: B018
    with pytest.raises(KeyError, match=r"pattern_grad was not captured; .* capture\(..., grad=\{'pattern'\}\)"):
        kept["pattern_grad"]
    with pytest.raises(AttributeError, match="a capture has no 'patern'; sites are resid_pre, "):
        kept.patern  # noqa: B018
    assert not hasattr(kept, "__torch_function__")


def test_another_file_is_no_capture(qwen, tmp_path):
    path = measure(*qwen, Budget()).save(tmp_path / "r.safetensors")
    with pytest.raises(ValueError, match=r"r\.safetensors holds a SegmentShares, not a capture"):
        Capture.load(path)


# -------------------------------------------------------------------------------------------------------------- a model's law


@given(st.integers(0, 50))
def test_the_logits_of_a_prefix_are_the_logits_of_the_whole(model_of, length):
    model = model_of("qwen2")
    prompt = model.prepare(text="What is this, and what is that? Say it.")
    count = 1 + length % (len(prompt) - 1)
    prefix = model.prepare(inputs={"input_ids": prompt.inputs["input_ids"][:, :count]})
    whole, part = (capture(model, p, want={"logits"}).logits for p in (prompt, prefix))
    torch.testing.assert_close(whole[:count], part, rtol=1e-4, atol=1e-5)


def test_the_verbs_are_where_the_package_says(qwen):
    assert interp.capture is capture
    assert interp.measure is measure
    assert interp.Position is Position
