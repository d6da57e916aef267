"""From images and a question to a Prompt: the model's own processor and chat template, and what each token stands for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor

from interp.data.images import read_image
from interp.data.layout import Grid, Layout
from interp.data.prompt import Prompt, Request
from interp.data.tokens import Segment
from interp.families.base import Family, ImageView

SYSTEM_PROMPTS = {
    "vicuna_v1": "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions.",
}
"""System prompts by name: `vicuna_v1` is the one the original LLaVA-1.5 was tuned and evaluated with."""

PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
"""The inputs that hold one entry a token."""


@final
@dataclass(frozen=True)
class Preparation:
    """Makes prompts for one model.

    Args:
        processor: the model's processor, or the tokenizer of a language model.
        family: how an image becomes tokens.
        config: the model's configuration.
        context: how many tokens fit; None when the configuration does not say.
        needs_image: whether the model cannot run on text alone.
    """

    processor: Any
    family: Family
    config: Any
    context: int | None
    needs_image: bool = False

    @property
    def tokenizer(self) -> Any:
        """The tokenizer."""
        return getattr(self.processor, "tokenizer", self.processor)

    @property
    def image_id(self) -> int | None:
        """The id of the token that stands for a piece of an image; None in a language model."""
        return None if self.family.image_token is None else int(getattr(self.config, self.family.image_token))

    def __call__(self, request: Request) -> Prompt:
        """Make a prompt.

        Raises:
            ValueError: an empty question, a prompt longer than the context, or images that do not match the text or the model.
        """
        request = replace(request, images=tuple(read_image(i) for i in request.images))
        inputs = dict(request.inputs) if request.inputs is not None else self._processed(request)
        ids = inputs["input_ids"]
        if ids.ndim != 2 or ids.shape[0] != 1:
            raise ValueError(
                f"a prompt holds one conversation: input_ids of shape (1, token), got {tuple(ids.shape)}; "
                "prepare several prompts for a batch"
            )
        inputs = _unpadded(inputs)
        layout = self._layout(inputs, request)
        if request.response is not None:
            inputs, layout = self._answered(inputs, layout, request.response)
        length = inputs["input_ids"].shape[1]
        if self.context is not None and length > self.context:
            raise ValueError(
                f"the prompt has {length} tokens and the model's context holds {self.context}; "
                "shorten the text, or use fewer or smaller images"
            )
        return Prompt(inputs, layout, tuple(self.words(inputs["input_ids"][0])), request, self)

    def words(self, ids: Tensor | Sequence[int]) -> list[str]:
        """Return every token as readable text."""
        plain = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        return [self.tokenizer.decode([i]) for i in plain]

    def _processed(self, request: Request) -> dict[str, Tensor]:
        text = self._rendered(request)
        bos = self.tokenizer.bos_token
        special = {"add_special_tokens": False} if bos and text.startswith(bos) else {}
        if not request.images:
            plain = dict(self.tokenizer([text], return_tensors="pt", **special))
            typed = {"token_type_ids": torch.zeros_like(plain["input_ids"])} if self.family.response_type else {}
            return {**plain, **typed}
        try:
            return dict(self.processor(text=[text], images=[list(request.images)], return_tensors="pt", **special))
        except Exception as error:
            sizes = ", ".join(f"{i.width} × {i.height}" for i in request.images) or "no image"
            raise ValueError(
                f"{type(self.processor).__name__} could not process this prompt ({sizes}): {error}"
            ) from error

    def _rendered(self, request: Request) -> str:
        """Return the conversation as the model's chat template writes it, up to where the reply begins."""
        question = self._without_placeholders(request)
        if not question.strip():
            raise ValueError("the question is empty; ask something, for example 'Describe the image.'")
        system = SYSTEM_PROMPTS.get(request.system_prompt or "", request.system_prompt)
        template = getattr(self.processor, "chat_template", None) or getattr(self.tokenizer, "chat_template", None)
        if self.family.prompt is not None:
            return self.family.prompt(len(request.images), question, system)
        if template is None:
            return question if system is None else f"{system} {question}"
        only_text = self.processor is self.tokenizer
        content: Any = (
            question
            if only_text
            else [*({"type": "image"} for _ in request.images), {"type": "text", "text": question}]
        )
        messages = [{"role": "user", "content": content}]
        if system is not None:
            messages.insert(
                0, {"role": "system", "content": system if only_text else [{"type": "text", "text": system}]}
            )
        text = self.processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False, chat_template=template
        )
        if system is not None and system.strip() not in text:
            raise ValueError(
                "the model's chat template leaves out system messages; put the instruction into the question instead"
            )
        return text

    def _without_placeholders(self, request: Request) -> str:
        """Return the question; placeholders written into it are counted against the images, then left to the template."""
        if self.needs_image and not request.images:
            raise ValueError(f"{self.config.model_type} cannot run on text alone: give an image, prepare(image, text)")
        if request.images and self.image_id is None:
            raise ValueError(
                f"{self.config.model_type} is a language model: it takes no image, got {len(request.images)}"
            )
        if self.image_id is None:
            return request.text
        placeholder = str(
            getattr(self.processor, "image_token", None) or self.tokenizer.convert_ids_to_tokens(self.image_id)
        )
        named = request.text.count(placeholder) if placeholder else 0
        if named and named != len(request.images):
            raise ValueError(
                f"the text names {named} image(s) ({placeholder}), but {len(request.images)} were given; "
                f"give as many as it names, or leave {placeholder} out"
            )
        return request.text.replace(placeholder, "").strip() if named else request.text

    def _layout(self, inputs: Mapping[str, Tensor], request: Request) -> Layout:
        ids = inputs["input_ids"][0]
        is_image = ids == self.image_id if self.image_id is not None else torch.zeros_like(ids, dtype=torch.bool)
        segment = torch.full_like(ids, Segment.USER.value)
        if not is_image.any():
            if request.images:
                raise ValueError(
                    f"{len(request.images)} image(s) were given but the processed text holds no image token: "
                    "the chat template or the processor left them out"
                )
            return Layout(segment)
        grids = self._grids(inputs, request, int(is_image.sum()))
        patches = torch.tensor([p for g in grids for p in g.placeholders], dtype=torch.bool, device=ids.device)
        if len(patches) != int(is_image.sum()):
            raise ValueError(
                f"the family counts {len(patches)} image tokens, the processor wrote {int(is_image.sum())}: "
                "the processor belongs to another model, or its settings were changed; see Family.grids"
            )
        places = is_image.nonzero().flatten()
        segment[: places[0]] = Segment.SYSTEM.value
        segment[places[patches]] = Segment.IMAGE.value
        return Layout(segment, grids)

    def _grids(self, inputs: Mapping[str, Tensor], request: Request, count: int) -> tuple[Grid, ...]:
        if request.images and self.family.grids is not None:
            views = (
                ImageView(self.processor, self.config, inputs, i, image.size) for i, image in enumerate(request.images)
            )
            return tuple(g for view in views for g in self.family.grids(view))
        return (Grid(0, 1, count, None),)

    def _answered(
        self, inputs: Mapping[str, Tensor], layout: Layout, response: str | tuple[int, ...]
    ) -> tuple[dict[str, Tensor], Layout]:
        ids = (
            self.tokenizer(response, add_special_tokens=False)["input_ids"]
            if isinstance(response, str)
            else list(response)
        )
        if not ids:
            raise ValueError("the response is empty; leave it out, or give at least one token")
        grown = dict(inputs)
        for name in PER_TOKEN:
            if name in inputs:
                types = self.family.response_type if name == "token_type_ids" else 0
                fill = {"input_ids": ids, "attention_mask": [1] * len(ids)}.get(name, [types] * len(ids))
                extra = torch.tensor([fill], dtype=inputs[name].dtype, device=inputs[name].device)
                grown[name] = torch.cat([inputs[name], extra], 1)
        return grown, layout.grown_to(len(layout) + len(ids))


def _unpadded(inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the inputs as tensors, without the padding tokens of the one conversation."""
    given = {n: v for n, v in inputs.items() if isinstance(v, Tensor) and n != "labels"}
    mask = given.get("attention_mask")
    if mask is None:
        return {**given, "attention_mask": torch.ones_like(given["input_ids"])}
    if bool(mask.all()):
        return given
    real = mask[0].bool()
    return {n: v[:, real] if n in PER_TOKEN else v for n, v in given.items()}


def batched(prompts: Sequence[Prompt], right_padded: tuple[str, ...], pad_id: int) -> dict[str, Tensor]:
    """Return the inputs of several prompts as one batch: conversations padded on the left, everything else stacked.

    Raises:
        ValueError: the prompts do not carry the same inputs (one has an image, another has none).
    """
    names = set(prompts[0].inputs)
    if any(set(p.inputs) != names for p in prompts):
        raise ValueError("prompts with and without images cannot share a batch; run them in two calls")
    if len(prompts) == 1:
        return dict(prompts[0].inputs)
    batch = {}
    for name in prompts[0].inputs:
        parts = [p.inputs[name] for p in prompts]
        left = name in (*PER_TOKEN, "position_ids") and name not in right_padded
        fill = pad_id if name == "input_ids" else 0
        shape = [max(p.shape[d] for p in parts) for d in range(1, parts[0].ndim)]
        batch[name] = torch.cat([_padded(p, shape, left, fill) for p in parts])
    return batch


def _padded(part: Tensor, shape: Sequence[int], left: bool, fill: int) -> Tensor:
    widths: list[int] = []
    for size, want in zip(reversed(part.shape[1:]), reversed(list(shape)), strict=True):
        widths += [want - size, 0] if left else [0, want - size]
    return torch.nn.functional.pad(part, widths, value=fill) if any(widths) else part
