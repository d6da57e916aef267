"""What goes into a model and what comes out of it: Prompt, Reply and Capture."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, final

from torch import Tensor

from interp.data.layout import Grid, Layout
from interp.data.short_repr import short_repr
from interp.data.storage import StoredArrays, save_arrays
from interp.data.tokens import EVERY, Segment


@final
@dataclass(frozen=True, eq=False)
class Request:
    """What a prompt was made from, so that it can be made again with one thing changed."""

    images: tuple[Any, ...] = ()
    text: str = ""
    system_prompt: str | None = None
    response: str | tuple[int, ...] | None = None
    inputs: Mapping[str, Tensor] | None = None


@final
@dataclass(frozen=True, eq=False)
class Prompt:
    """One conversation, ready for a model. Made by `model.prepare`.

    Args:
        inputs: the model's inputs, a batch of one, without padding.
        layout: the segment of every token and the place of every image token.
        tokens: every token as text.
        request: what it was made from.
        again: makes a prompt from a request, for the same model.
    """

    inputs: Mapping[str, Tensor]
    layout: Layout
    tokens: tuple[str, ...]
    request: Request = field(repr=False)
    again: Callable[[Request], "Prompt"] = field(repr=False)

    def __repr__(self) -> str:
        """Return a short form: arrays as their sizes."""
        return short_repr(self)

    def __len__(self) -> int:
        """Return the number of tokens."""
        return len(self.layout)

    @property
    def images(self) -> tuple[Any, ...]:
        """The images, upright and in RGB."""
        return self.request.images

    @property
    def text(self) -> str:
        """The question."""
        return self.request.text

    @property
    def ids(self) -> tuple[int, ...]:
        """Every token id."""
        return tuple(self.inputs["input_ids"][0].tolist())

    @property
    def response_ids(self) -> tuple[int, ...]:
        """The ids of the teacher-forced reply; empty when there is none."""
        chosen = self.layout.mask(Segment.RESPONSE)
        return tuple(self.inputs["input_ids"][0][chosen].tolist())

    def with_response(self, response: "str | Sequence[int] | Reply") -> "Prompt":
        """Return this prompt followed by a reply, teacher-forced: its text, its token ids, or a `Reply`."""
        ids = response.ids if isinstance(response, Reply) else response
        answered = self.again(replace(self.request, response=ids if isinstance(ids, str) else tuple(ids)))
        return answered.marked(**self.layout.marks)

    def marked(self, **positions: Iterable[int]) -> "Prompt":
        """Return this prompt with tokens marked under names, for selections such as `SINKS`.

        Raises:
            ValueError: a position that is not there.
        """
        return replace(self, layout=self.layout.marked(**positions))

    def without(self, segment: Segment) -> "Prompt":
        """Return the same conversation without its images.

        Raises:
            ValueError: another segment than IMAGE.
        """
        if segment is not Segment.IMAGE:
            raise ValueError(
                f"only the IMAGE segment can be taken out of a prompt, not {segment.name}; prepare another text instead"
            )
        kept = (
            None
            if self.request.inputs is None
            else {"input_ids": self.inputs["input_ids"][:, ~self.layout.mask(segment | Segment.RESPONSE)]}
        )
        return self.again(replace(self.request, images=(), inputs=kept))

    def with_image(self, *images: Any) -> "Prompt":
        """Return the same question about other images.

        Raises:
            ValueError: the prompt was made from tensors, so there is nothing to process an image with.
        """
        if self.request.inputs is not None:
            raise ValueError(
                "this prompt was made from processed tensors; prepare(image, text) makes one whose image can be changed"
            )
        return self.again(replace(self.request, images=images))

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the images, and every token coloured by its segment."""
        from interp.data import display

        images = "".join(display.thumbnail(image) for image in self.images)
        told = display.conversation(self.tokens, self.layout.names)
        return display.card("Prompt", display.note(f"{len(self)} tokens"), images, told)


@final
@dataclass(frozen=True, eq=False)
class Reply:
    """What a model answered.

    Args:
        text: the reply without special tokens.
        tokens: its tokens as text, the end token included when there was one.
        ids: their ids.
        logprobs: the natural log-probability the model gave each of them, under the interventions, before temperature,
            sampling bounds and logits processors.
        stop: why it ended: the model ended it, the length ran out, or a stop string came.
        prompt: the prompt it answers.
        audit: what each intervention did.
    """

    text: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop: Literal["end", "length", "stop_string"]
    prompt: Prompt = field(repr=False)
    audit: Sequence[Any] = field(default=(), repr=False)

    def __repr__(self) -> str:
        """Return a short form: arrays as their sizes."""
        return short_repr(self)

    @property
    def layout(self) -> Layout:
        """The layout of the prompt followed by the reply."""
        return self.prompt.layout.grown_to(len(self.prompt) + len(self.ids))

    def __str__(self) -> str:
        """Return the text."""
        return self.text

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the tokens coloured by how unlikely they were, and what each intervention did."""
        from interp.data import display

        scored = display.scored(self.tokens, [-p for p in self.logprobs], "−ln p, nats")
        rows = [(f.intervention, f.calls, sorted(f.layers), f.largest, f.mean) for f in self.audit]
        heads = ("change", "calls", "layers", "largest change", "mean change")
        stop = display.note(f"{len(self.ids)} tokens, stopped by: {self.stop}")
        return display.card(self.text, scored, stop, display.table(heads, rows) if rows else "")


AXES = {
    **dict.fromkeys(("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"), "layer token dim"),
    **dict.fromkeys(("q", "z"), "layer token head head_dim"),
    **dict.fromkeys(("k", "v"), "layer token kv_head head_dim"),
    **dict.fromkeys(("attn_scores", "pattern"), "layer head query key"),
    "logits": "token vocab",
}
"""The axes of every array of a capture, by site."""


@final
@dataclass(frozen=True, eq=False)
class Capture:
    """The arrays one pass was asked to keep, by site: `capture.pattern`, `capture.pattern_grad`, `capture.resid_post`, ...

    The axes of each are in `AXES`. Sites outside the decoder carry their part's name (`capture["vision.pattern"]`).

    Args:
        arrays: the arrays by name; read from disk one by one when the capture was loaded.
        layout: the conversation's layout.
        tokens: its tokens as text.
        ids: its token ids.
        layers: which layers the layer axes run over.
        queries: which positions the query axes run over.
        target: what the gradients are of, in words; empty when there are none.
        model: the name of the model.
    """

    arrays: Mapping[str, Tensor] = field(repr=False)
    layout: Layout = field(repr=False)
    tokens: tuple[str, ...] = field(repr=False)
    ids: tuple[int, ...] = field(repr=False)
    layers: tuple[int, ...]
    queries: tuple[int, ...] = field(repr=False)
    target: str = ""
    model: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        """Return a short form: arrays as their sizes."""
        return short_repr(self)

    def __getitem__(self, name: str) -> Tensor:
        """Return an array by name.

        Raises:
            KeyError: it was not kept; says how to keep it.
        """
        if name not in self.arrays:
            wish = f"grad={{{name.removesuffix('_grad')!r}}}" if name.endswith("_grad") else f"want={{{name!r}}}"
            raise KeyError(
                f"{name} was not captured; this capture has {', '.join(sorted(self.arrays))}. Ask for it: capture(..., {wish})"
            )
        return self.arrays[name]

    def __getattr__(self, name: str) -> Tensor:
        """Return an array as an attribute.

        Raises:
            AttributeError: it was not kept; says how to keep it.
        """
        if name.startswith("__") or name.removesuffix("_grad") not in AXES:
            raise AttributeError(f"a capture has no {name!r}; sites are {', '.join(AXES)}")
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def _repr_html_(self) -> str:
        """Return what a notebook shows: which arrays were kept, and where the last row of the pattern looks."""
        from interp.data import display

        title = f"Capture of {self.model}: {len(self.tokens)} tokens, {len(self.layers)} layers"
        if not isinstance(self.arrays, dict):  # on disk: reading it all for a look would be dear
            return display.card(title, display.table(("array",), [(name,) for name in self.arrays]))
        rows = [
            (n, AXES.get(n.removesuffix("_grad"), ""), " × ".join(map(str, a.shape)), str(a.dtype))
            for n, a in self.arrays.items()
        ]
        parts = [display.table(("array", "axes", "shape", "dtype"), rows)]
        if "pattern" in self.arrays:
            parts += self._last_row()
        return display.card(title, *parts)

    def _last_row(self) -> list[str]:
        from interp.data import display

        row = self.arrays["pattern"][:, :, -1].float().mean((0, 1))
        sizes = [grid.rows * grid.cols for grid in self.layout.grids]
        maps = row[self.layout.mask(Segment.IMAGE).to(row.device)].split(sizes) if sizes else ()
        text = self.layout.mask(EVERY - Segment.IMAGE).tolist()
        words = [(w, v) for w, v, shown in zip(self.tokens, row.tolist(), text, strict=True) if shown]
        label = "attention, mean over layers and heads"
        return [
            display.note(f"What position {self.queries[-1]} ({self.tokens[self.queries[-1]]!r}) attends to:"),
            *(
                display.heat_map(values.reshape(grid.rows, grid.cols), f"{label}, on image {grid.image}")
                for grid, values in zip(self.layout.grids, maps, strict=True)
            ),
            display.scored([w for w, _ in words], [v for _, v in words], f"{label}, on the text"),
        ]

    def to_activation_cache(self, model: Any = None) -> Any:
        """Return this as a TransformerLens `ActivationCache`, so that TransformerLens' tools run on it.

        Args:
            model: the `Model` it was made with, for those of the tools that need its weights or its final norm.
        """
        from interp.data.export import activation_cache, standin

        layers = max(self.layers) + 1
        if model is None:
            return activation_cache(self.arrays, self.layers, standin(self.sizes, layers))
        norm = model.decoder.get_submodule(model.family.final_norm)
        return activation_cache(self.arrays, self.layers, standin(self.sizes, model.layers, model.weights, norm))

    def save(self, path: str | Path) -> Path:
        """Write the capture to one safetensors file, whole or not at all."""
        header = {
            "what": "capture",
            "tokens": self.tokens,
            "ids": self.ids,
            "layers": self.layers,
            "queries": self.queries,
            "target": self.target,
            "model": self.model,
            "sizes": dict(self.sizes),
            "grids": [asdict(g) for g in self.layout.grids],
        }
        return save_arrays(path, {**self.arrays, "segment": self.layout.segment}, header)

    @classmethod
    def load(cls, path: str | Path) -> "Capture":
        """Open a saved capture; each array is read when it is asked for.

        Raises:
            ValueError: the file holds something else.
        """
        stored = StoredArrays(path)
        if stored.header.get("what") != "capture":
            raise ValueError(f"{path} holds a {stored.header.get('what')}, not a capture")
        h = stored.header
        grids = tuple(Grid(**{**g, "box": g["box"] and tuple(g["box"])}) for g in h["grids"])
        layout = Layout(stored["segment"], grids)
        words, ids, layers, queries = (tuple(h[n]) for n in ("tokens", "ids", "layers", "queries"))
        return cls(stored, layout, words, ids, layers, queries, h["target"], h["model"], h["sizes"])
