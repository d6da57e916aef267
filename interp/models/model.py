"""The one class with state: a Hugging Face model with its processor, its family and its taps."""

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from interp.analysis.base import View
from interp.data.errors import check_type
from interp.data.heads import HeadWeights, LogitDirections
from interp.data.layout import Layout
from interp.data.prompt import Prompt, Reply, Request
from interp.data.sites import SITES
from interp.data.tokens import Segment
from interp.families.base import Family, ImageView
from interp.interventions.base import Intervention
from interp.interventions.scope import Scope
from interp.models.head_weights import head_weights, logit_directions
from interp.models.processing import Preparation, batched
from interp.taps.clean_run import clean_run, read_ahead
from interp.taps.install import RUNNING, install
from interp.taps.nnsight_trace import wrap
from interp.taps.points import AttentionTaps
from interp.taps.running import Destination, Pass, Reader
from interp.taps.site_table import site_table
from interp.taps.spec import PassSpec
from interp.taps.state import CleanKeys, Conversations, PassState


@final
class Model:
    """A vision-language model or language model whose values can be read and changed while it runs.

    Its parameters are frozen and it is in evaluation mode; every attention module and decoder layer has taps.

    Args:
        module: a Hugging Face model with a language-model head.
        processor: its processor, or the tokenizer of a language model.
        family: where its parts are.
        name: what it is called in results.
        revision: which version of the weights, where that is known.
    """

    def __init__(
        self, module: nn.Module, processor: Any, family: Family, name: str, revision: str | None = None
    ) -> None:
        """Install the taps.

        Raises:
            TypeError: an attention that the taps cannot reach.
        """
        self.module = module.eval().requires_grad_(False)
        self.processor, self.family, self.name, self.revision = processor, family, name, revision
        self.config = module.config
        self.text_config = module.config.get_text_config(decoder=True)
        self.notes: tuple[str, ...] = ()
        self.loaded: dict[str, Any] | None = (
            None  # what `load` was given, where another process can load the same by it
        )
        self._streams = install(module, family)
        pixels = inspect.signature(module.forward).parameters.get("pixel_values")
        needs_image = pixels is not None and pixels.default is inspect.Parameter.empty
        context = getattr(self.text_config, "max_position_embeddings", None)
        self._again = Preparation(processor, family, self.config, context, needs_image)
        self._seen = None
        self._derived: dict[str, Any] = {}

    def __repr__(self) -> str:
        """Say what it is and how large."""
        size = sum(p.numel() for p in self.module.parameters()) / 1e6
        return f"Model({self.name!r}, {self.config.model_type}, {self.layers} layers × {self.heads} heads, {size:.1f} M parameters)"

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        from interp.data import display

        return display.model_card(self)

    @property
    def decoder(self) -> nn.Module:
        """The module that owns the decoder layers."""
        return self.module.get_submodule(self.family.decoder)

    @property
    def blocks(self) -> nn.ModuleList:
        """The decoder layers."""
        return self.decoder.get_submodule(self.family.layers)

    @property
    def layers(self) -> int:
        """The number of decoder layers."""
        return len(self.blocks)

    @property
    def part_layers(self) -> dict[str, int]:
        """The number of layers of every part that attends: the decoder, the vision tower, a Q-Former and its cross-attention."""
        return self.derived("layers by part", lambda: dict(Counter(self._parts())))

    def _parts(self) -> Iterator[str]:
        yield from (m.part for m in self.module.modules() if isinstance(m, AttentionTaps))

    @property
    def heads(self) -> int:
        """The number of query heads in a decoder layer."""
        return int(self.text_config.num_attention_heads)

    @property
    def kv_heads(self) -> int:
        """The number of key-value heads in a decoder layer."""
        return int(getattr(self.text_config, "num_key_value_heads", None) or self.heads)

    @property
    def dim(self) -> int:
        """The width of the residual stream."""
        return int(self.text_config.hidden_size)

    @property
    def head_dim(self) -> int:
        """The width of one head."""
        return int(getattr(self.text_config, "head_dim", None) or self.dim // self.heads)

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites this model has, in forward order."""
        return SITES if self.family.resid_mid is not None else tuple([s for s in SITES if s != "resid_mid"])

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return self._again.tokenizer

    @property
    def context(self) -> int | None:
        """How many tokens fit; None when the configuration does not say."""
        return self._again.context

    @property
    def needs_image(self) -> bool:
        """Whether it cannot run on text alone."""
        return self._again.needs_image

    @property
    def device(self) -> torch.device:
        """Where the inputs go."""
        return self.module.device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the weights."""
        return self.module.dtype

    def prepare(
        self,
        images: Any = None,
        text: str = "",
        *,
        system_prompt: str | None = None,
        response: str | Sequence[int] | Reply | None = None,
        inputs: Mapping[str, Tensor] | None = None,
    ) -> Prompt:
        """Return a prompt in the model's own chat format.

        Args:
            images: an image (PIL, path or array), a list of them, or None for text alone.
            text: the question.
            system_prompt: an instruction before the conversation; `vicuna_v1` is LLaVA-1.5's original one.
            response: a reply to teacher-force: text, token ids, or a `Reply`.
            inputs: tensors that were processed elsewhere, instead of images and text; given with the images they were made
                from, the layout knows where on them each token looks.

        Raises:
            ValueError: an empty question, images that do not match the text or the model, or more tokens than fit.
            FileNotFoundError: an image file that is not there.
        """
        check_type(text, str, "text", "the question as text")
        check_type(system_prompt, str | None, "system_prompt", "an instruction as text, or None")
        check_type(response, str | Sequence | Reply | Tensor | None, "response", "a reply: text, token ids or a Reply")
        check_type(inputs, Mapping | None, "inputs", "processed tensors by name, such as those of a processor")
        if isinstance(images, str) and not text and inputs is None:
            raise ValueError(
                f"prepare(image, text) got only {images!r}; for text without an image write prepare(text={images!r})"
            )
        several = () if images is None else tuple(images) if isinstance(images, (list, tuple)) else (images,)
        given = response.ids if isinstance(response, Reply) else response
        answer = given if given is None or isinstance(given, str) else tuple(int(i) for i in given)
        return self._again(Request(several, text, system_prompt, answer, inputs))

    def inputs(self, prompts: Sequence[Prompt]) -> dict[str, Tensor]:
        """Return the inputs of one or more prompts on the model's device, padded on the left."""
        pad = self.tokenizer.pad_token_id
        batch = batched(prompts, self.family.right_padded, 0 if pad is None else pad)
        mask = batch["attention_mask"]
        if self.family.image_token is None and not bool(mask.all()):  # absolute positions would count the padding
            batch["position_ids"] = (mask.cumsum(-1) - 1).clamp_min(0)
        floating = {n: v.to(self.dtype) if v.is_floating_point() else v for n, v in batch.items()}
        return {n: v.to(self.device) for n, v in floating.items()}

    def running(  # what a pass does, and who takes part in it
        self,
        prompts: Sequence[Prompt],
        interventions: Sequence[Intervention] = (),
        *,
        new: int = 0,
        reader: Reader | None = None,
        destination: Destination | None = None,
        clean: CleanKeys | None = None,
        scratch: dict[Any, Any] | None = None,
        **spec: Any,
    ) -> Pass:
        """Return the pass over some prompts, to be made the running one with `interp.taps.running.run_pass`.

        Args:
            prompts: one or more.
            interventions: the interventions they run under.
            new: how many tokens may be added to each.
            reader: is given every value that is read.
            destination: says where a large pattern is made.
            clean: keys and values to attend to instead of the prompts' own; by default those of a clean run where an intervention needs it.
            scratch: the dictionary of `Here.state`; a new one by default.
            spec: more of `interp.taps.spec.PassSpec`.

        Raises:
            ValueError: an intervention that can never act; see `check`.
        """
        self.check(prompts, interventions, new=new)
        what = PassSpec(tuple(interventions), **spec)
        state = PassState(Conversations(tuple(p.layout for p in prompts)), scratch)
        clean = clean or clean_run(what, state, self.part_layers, self._streams)
        table = site_table(what, self.part_layers)
        return Pass(state, what, table, reader, destination, clean, self._streams)

    def check(self, prompts: Sequence[Prompt], interventions: Sequence[Intervention], *, new: int = 0) -> None:
        """Refuse interventions that cannot act on these prompts and up to `new` tokens more, before anything runs.

        Raises:
            TypeError: something that is no intervention.
            ValueError: a part, site, layer, head or position that is not there, or a choice that takes none of them.
        """
        layouts = tuple(p.layout for p in prompts)
        reach = Scope(self.name, self.part_layers, self.heads, self.kv_heads, self.sites, layouts, new)
        for intervention in interventions:
            if not isinstance(intervention, Intervention):
                raise TypeError(
                    f"interventions are Intervention objects, got {type(intervention).__name__}: {intervention!r}"
                )
            reach.check(intervention)

    def weights(self, layer: int) -> HeadWeights:
        """Return what each head of a layer multiplies by.

        Raises:
            IndexError: a layer that is not there.
            TypeError: packed (quantised) weights, or projections of an unknown form.
        """
        if not 0 <= layer < self.layers:
            raise IndexError(f"layer {layer} is not there: {self.name} has layers 0..{self.layers - 1}")
        return head_weights(self.blocks[layer], self.family, self.text_config, self.decoder)

    def derived(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what is worked out from the weights under a name, made once: the weights are frozen, so it stays true."""
        if name not in self._derived:
            self._derived[name] = make()
        return self._derived[name]

    def unembed(self, stream: Tensor, *, normed: bool = True) -> Tensor:
        """Return the logits (..., vocab) that the final norm and the head make of a residual stream (..., dim).

        No tap sees it, so an intervention may ask for it in the middle of a pass.

        Args:
            stream: the stream after any layer.
            normed: whether it goes through the final norm.
        """
        head, norm = self.module.get_output_embeddings(), self.decoder.get_submodule(self.family.final_norm)
        with torch.no_grad():
            value = stream.to(self.device, self.dtype)
            return head.forward(norm.forward(value) if normed else value)

    def directions(self, ids: Sequence[int]) -> LogitDirections:
        """Return what the stream after the last layer is multiplied by for the logits of some tokens.

        Raises:
            TypeError: packed (quantised) weights.
        """
        norm = self.decoder.get_submodule(self.family.final_norm)
        return logit_directions(self.module.get_output_embeddings(), norm, torch.tensor(list(ids)))

    def view(self, prompt: Prompt) -> View:
        """Return what an analysis may know about a prompt and this model beside the arrays of a pass."""
        return View(
            prompt.layout,
            prompt.tokens,
            prompt.ids,
            weights=self.weights,
            unembed=self.unembed,
            directions=self.directions,
        )

    def patch_layout(self, prompt: Prompt) -> Layout:
        """Return the layout of the patches that a Q-Former looks at: the keys of `cross.pattern` behind its first.

        Example:
            >>> seen = interp.capture(model, prompt, want={"cross.pattern"})  # doctest: +SKIP
            >>> interp.plot.overlay(image, seen["cross.pattern"][-1].mean((0, 1))[1:], model.patch_layout(prompt))  # doctest: +SKIP

        Raises:
            ValueError: a model without a Q-Former, whose image tokens have places of their own, or a prompt without an image.
        """
        if self.family.patches is None:
            raise ValueError(
                f"{self.name} has no Q-Former: its image tokens have places of their own, see prompt.layout.places()"
            )
        if not prompt.images:
            raise ValueError(
                "the prompt was made without an image, so its patches have no place; prepare(image, text) makes one with"
            )
        grid = self.family.patches(ImageView(self.processor, self.config, prompt.inputs, 0, prompt.images[0].size))
        return Layout(torch.full((grid.rows * grid.cols,), Segment.IMAGE.value), (grid,))

    @property
    def seen(self) -> Any:
        """The model as nnsight sees it; made when it is first asked for."""
        if self._seen is None:
            self._seen = wrap(self.module)
        return self._seen

    def trace(self, prompt: Prompt | None = None, *interventions: Intervention, **inputs: Tensor) -> Any:
        """Return nnsight's own trace of this model, for whatever is not foreseen here; every tap of the decoder runs in it.

        Example:
            >>> with model.trace(prompt):  # doctest: +SKIP
            ...     layer = model.seen.model.language_model.layers[3]
            ...     pattern = layer.self_attn.taps.pattern.output.save()
        """
        given = inputs if prompt is None else {**self.inputs([prompt]), **inputs}
        every = frozenset(("decoder", site) for site in self.sites)
        now = self.running([] if prompt is None else [prompt], interventions, reads=every)
        if given:
            read_ahead(self.module, given, now)
        return self.seen.trace(**given, use_cache=False, **{RUNNING: now})
