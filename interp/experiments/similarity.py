"""Two runs over one reply: a vision-language model with its image, and the same language model alone."""

from collections.abc import Sequence
from typing import Any, Literal

from interp.analysis.similarity import HeadSimilarity, head_similarity
from interp.data.deprecation import renamed_keyword
from interp.data.prompt import Prompt
from interp.data.tokens import Segment
from interp.interventions.base import Intervention
from interp.models.model import Model
from interp.passes.capture import capture


@renamed_keyword("changes", "interventions")
def similarity(
    model: Model,
    prompt: Prompt,
    *,
    alone: Prompt | None = None,
    language_model: Model | None = None,
    interventions: Sequence[Intervention] = (),
    rows: Literal["as_they_are", "normalised"] = "as_they_are",
) -> HeadSimilarity:
    """Return the cosine, per head, of the attention within a reply with the image and without.

    Args:
        model: the vision-language model.
        prompt: a prompt with an image and a reply.
        alone: the prompt of the second run, with the same reply; by default the same one without its image. One whose text has a
            placeholder such as `<image>` written out is what the references use.
        language_model: the model of the second run; the same model by default. Needs `alone`, prepared by it.
        interventions: interventions on the first run.
        rows: see `head_similarity`.

    Raises:
        ValueError: no image, no reply, or a language model without its prompt.

    References: AIR's supplement, appendix A.2, which compares with the language model the vision-language model was made from. Differs:
    by default it is the tuned language model inside the vision-language model, and nothing replaces the image.
    """
    if not prompt.response_ids:
        raise ValueError("the similarity is of the attention within a reply: prompt.with_response(reply)")
    if alone is None:
        if language_model is not None:
            raise ValueError(
                "another language model needs its own prompt: "
                "alone=language_model.prepare(text=..., response=prompt.response_ids)"
            )
        if not prompt.layout.mask(Segment.IMAGE).any():
            raise ValueError("this prompt has no image to leave out; give the prompt to compare with (alone=...)")
        alone = prompt.without(Segment.IMAGE)
    with_image: Any = capture(model, prompt, want={"pattern"}, queries=Segment.RESPONSE, interventions=interventions)
    without: Any = capture(language_model or model, alone, want={"pattern"}, queries=Segment.RESPONSE)
    return head_similarity(with_image, without, rows=rows)
