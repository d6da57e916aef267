"""A model's input (`Request`, `Prompt`) and outputs: a generated text (`Reply`), the arrays of a pass (`Capture`)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, final

from torch import Tensor

from interp.data.layout import Grid, Layout
from interp.data.short_repr import array_repr, short_repr
from interp.data.storage import StoredArrays, save_arrays
from interp.data.tokens import EVERY, Segment


@final
@dataclass(frozen=True, eq=False)
class Request:
    """The arguments that a prompt was made from, so that a variant of it can be made."""

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
        layout: the segment of every token, and the position of every image token on its image.
        tokens: every token as text.
        request: the arguments that it was made from.
        again: makes a prompt from a request, for the same model.
    """

    inputs: Mapping[str, Tensor]
    layout: Layout
    tokens: tuple[str, ...]
    request: Request = field(repr=False)
    again: Callable[[Request], "Prompt"] = field(repr=False)

    def __repr__(self) -> str:
        """Return one line, with the sizes of arrays instead of their values."""
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
        """The ids of the teacher-forced reply; empty without one."""
        chosen = self.layout.mask(Segment.RESPONSE)
        return tuple(self.inputs["input_ids"][0][chosen].tolist())

    def with_response(self, response: "str | Sequence[int] | Reply") -> "Prompt":
        """Return this prompt followed by a reply, teacher-forced: its text, its token ids, or a `Reply`."""
        ids = response.ids if isinstance(response, Reply) else response
        answered = self.again(replace(self.request, response=ids if isinstance(ids, str) else tuple(ids)))
        return answered.marked(**self.layout.marks)

    def marked(self, **positions: Iterable[int]) -> "Prompt":
        """Return this prompt with named marks on token positions, for selections such as `SINKS`.

        Raises:
            ValueError: a position is outside the prompt.
        """
        return replace(self, layout=self.layout.marked(**positions))

    def without(self, segment: Segment) -> "Prompt":
        """Return the same conversation without its images.

        Raises:
            ValueError: the segment is not IMAGE.
        """
        if segment is not Segment.IMAGE:
            raise ValueError(
                f"only the IMAGE segment can be removed from a prompt, not {segment.name}; prepare another text instead"
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
            ValueError: the prompt was made from tensors, so it has no text to process with another image.
        """
        if self.request.inputs is not None:
            raise ValueError(
                "this prompt was made from processed tensors; prepare(image, text) makes one whose image can be changed"
            )
        return self.again(replace(self.request, images=images))

    def _repr_html_(self) -> str:
        """Return the HTML that a notebook shows: the images, and every token coloured by its segment."""
        from interp.data import display

        images = "".join(display.thumbnail(image) for image in self.images)
        told = display.segments_html(self.tokens, self.layout.names)
        return display.card("Prompt", display.note_html(f"{len(self)} tokens"), images, told)


@final
@dataclass(frozen=True, eq=False)
class Reply:
    """A text that a model generated.

    Args:
        text: the reply without special tokens.
        tokens: its tokens as text, including the end token if it was generated.
        ids: the ids of these tokens.
        logprobs: the natural log-probability of each token, under the interventions, before temperature, sampling bounds and
            logits processors.
        stop: why generation ended: the end token, the length limit, or a stop string.
        prompt: the prompt that it answers.
        audit: the effect of each intervention.
    """

    text: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop: Literal["end", "length", "stop_string"]
    prompt: Prompt = field(repr=False)
    audit: Sequence[Any] = field(default=(), repr=False)

    def __repr__(self) -> str:
        """Return one line, with the sizes of arrays instead of their values."""
        return short_repr(self)

    @property
    def layout(self) -> Layout:
        """The layout of the prompt followed by the reply."""
        return self.prompt.layout.grown_to(len(self.prompt) + len(self.ids))

    def __str__(self) -> str:
        """Return the text."""
        return self.text

    def _repr_html_(self) -> str:
        """Return the HTML that a notebook shows: the tokens coloured by their surprisal, and the effect of each intervention."""
        from interp.data import display

        scored = display.scores_html(self.tokens, [-p for p in self.logprobs], "−ln p, nats")
        rows = [(f.intervention, f.calls, sorted(f.layers), f.largest, f.mean) for f in self.audit]
        heads = ("intervention", "calls", "layers", "largest change", "mean change")
        stop = display.note_html(f"{len(self.ids)} tokens, stopped by: {self.stop}")
        return display.card(self.text, scored, stop, display.table_html(heads, rows) if rows else "")


CAPTURE_AXES = {
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
    """The arrays kept from one pass, by site: `capture.pattern`, `capture.pattern_grad`, `capture.resid_post`, ...

    The axes of each are in `CAPTURE_AXES`. Sites outside the decoder have the prefix of their part (`capture["vision.pattern"]`).

    Args:
        arrays: the arrays by name; those of a loaded capture are read from disk on access.
        layout: the conversation's layout.
        tokens: its tokens as text.
        ids: its token ids.
        layers: the layers that the layer axes run over.
        queries: the positions that the query axes run over.
        target: the quantity that the gradients are of, in words; empty without gradients.
        model: the name of the model.
        sizes: the number of heads and the dimensions of the model, for `to_activation_cache`.
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
        """Return one line with the dtype, axes and sizes of every array; only the names if they are on disk."""
        if isinstance(self.arrays, dict):
            axes = {n: CAPTURE_AXES.get(n.removesuffix("_grad"), "") for n in self.arrays}
            listed = ", ".join(f"{n}={array_repr(a, axes[n])}" for n, a in self.arrays.items())
        else:  # on disk: reading all arrays for one line is slow
            listed = f"arrays on disk: {' '.join(self.arrays)}"
        return f"Capture({f'{listed}, ' if listed else ''}{short_repr(self).removeprefix('Capture(')}"

    def __getitem__(self, name: str) -> Tensor:
        """Return an array by name.

        Raises:
            KeyError: the array was not captured; the message says how to capture it.
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
            AttributeError: the array was not captured; the message says how to capture it.
        """
        if name.startswith("__") or name.removesuffix("_grad") not in CAPTURE_AXES:
            raise AttributeError(f"a capture has no {name!r}; sites are {', '.join(CAPTURE_AXES)}")
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def _repr_html_(self) -> str:
        """Return the HTML that a notebook shows: the arrays, and the attention of the last query."""
        from interp.data import display

        title = f"Capture of {self.model}: {len(self.tokens)} tokens, {len(self.layers)} layers"
        if not isinstance(self.arrays, dict):  # on disk: reading all arrays for a preview is slow
            return display.card(title, display.table_html(("array",), [(name,) for name in self.arrays]))
        rows = [
            (n, CAPTURE_AXES.get(n.removesuffix("_grad"), ""), " × ".join(map(str, a.shape)), str(a.dtype))
            for n, a in self.arrays.items()
        ]
        parts = [display.table_html(("array", "axes", "shape", "dtype"), rows)]
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
            display.note_html(f"What position {self.queries[-1]} ({self.tokens[self.queries[-1]]!r}) attends to:"),
            *(
                display.heat_map(values.reshape(grid.rows, grid.cols), f"{label}, on image {grid.image}")
                for grid, values in zip(self.layout.grids, maps, strict=True)
            ),
            display.scores_html([w for w, _ in words], [v for _, v in words], f"{label}, on the text"),
        ]

    def to_activation_cache(self, model: Any = None) -> Any:
        """Return a TransformerLens `ActivationCache`, so that TransformerLens' tools run on this capture.

        Args:
            model: the `Model` of this capture, for the tools that need its weights or its final norm.
        """
        from interp.data.export import activation_cache, build_standin

        layers = max(self.layers) + 1
        if model is None:
            return activation_cache(self.arrays, self.layers, build_standin(self.sizes, layers))
        norm = model.decoder.get_submodule(model.family.final_norm)
        return activation_cache(self.arrays, self.layers, build_standin(self.sizes, model.layers, model.weights, norm))

    def save(self, path: str | Path) -> Path:
        """Write the capture to one safetensors file, atomically."""
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
        """Open a saved capture; each array is read on access.

        Raises:
            ValueError: the file is not a capture.
        """
        stored = StoredArrays(path)
        if stored.header.get("what") != "capture":
            raise ValueError(f"{path} holds a {stored.header.get('what')}, not a capture")
        h = stored.header
        grids = tuple(Grid(**{**g, "box": g["box"] and tuple(g["box"])}) for g in h["grids"])
        layout = Layout(stored["segment"], grids)
        words, ids, layers, queries = (tuple(h[n]) for n in ("tokens", "ids", "layers", "queries"))
        return cls(stored, layout, words, ids, layers, queries, h["target"], h["model"], h["sizes"])
