"""SGRS: a drawn token is kept only when what it owes to the reply so far, by gradient, is as large as that of the tokens before it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import LogitsProcessorList, MinNewTokensLengthLogitsProcessor

from interp.data.prompt import Prompt, Reply
from interp.data.tokens import Segment, tokens
from interp.decoding.generate import end_tokens, reply_of
from interp.decoding.stream import Continuation
from interp.interventions.base import Here, Intervention
from interp.interventions.method import Method

OPTIONS = ("max_new_tokens", "min_new_tokens", "seed", "on_token")
"""The options of `generate` that this decoding loop knows."""


@final
@dataclass(frozen=True)
class Sgrs(Method):
    """Saliency-guided rejection sampling, a decoding loop.

    At position P the `candidates` likeliest tokens are considered. Each has the saliency S(c) = mean over target layers and the
    reply's tokens j of S̄_j, where S_j = Σ_h |A ⊙ ∂(-ln p(c))/∂A| in row P-1, which predicts it, and S̄ is S divided by the row's
    Euclidean norm. Candidates are drawn by probability, `draws` times at most, until one has S(c) ≥ alpha · mean S of the reply's last
    `window` + 1 tokens; when none has, the one with the largest S is taken. The first token of a reply has nothing to be
    salient of, and is the first draw.

    Row P-1 reaches the loss through its own stream alone, so with cached keys and values as constants its gradient is exact: a
    step costs its forward and one backward from the logits to the first target layer: for the first draw, and where that is
    refused one more for all the others together.

    `variant="release"` is what the public code does: it reads the candidate's own row, which its own prediction cannot depend
    on, so that every S is 0, every first draw is accepted, and the method is sampling among the `candidates`. It runs no backward.

    Args:
        candidates: K; 1 is neutral (greedy decoding).
        draws: R.
        alpha: how much of the recent saliency is asked for; 0 accepts every draw.
        window: W; the tokens up to W before the last one, as in the paper's Eq. 7.
        layers: the target layers, the upper half by default.
        variant: the paper's method or the released code.

    References: LVLMs-Saliency (2026), Eq. 5-7 and Algorithm 1, and its released code. Differs: row and norm are this project's
    reading, keys are the reply's alone (methods, decision 7); the loss is read at the row that predicts the candidate.
    """

    candidates: int = 5
    draws: int = 3
    alpha: float = 0.6
    window: int = 5
    layers: tuple[int, ...] | None = None
    variant: Literal["paper", "release"] = "paper"

    def __post_init__(self) -> None:
        """Refuse settings without a meaning.

        Raises:
            ValueError: fewer than one candidate or draw, a negative alpha or window, an unknown variant, or no target layer.
        """
        if self.candidates < 1 or self.draws < 1 or self.alpha < 0 or self.window < 0:
            raise ValueError(
                "SGRS takes at least one candidate and one draw, and alpha and window of at least 0, "
                f"got {self.candidates}, {self.draws}, {self.alpha} and {self.window}"
            )
        if self.variant not in ("paper", "release"):
            raise ValueError(f"variant is 'paper' or 'release', got {self.variant!r}")
        if self.layers is not None and not self.layers:
            raise ValueError("layers=() leaves no target layer; leave it out for the upper half")

    def refusal(self, model: Any) -> str | None:
        """Say which layers are not there."""
        beyond = [i for i in self.layers or () if not 0 <= i < model.layers]
        return f"target layers {beyond} are not there: it has layers 0..{model.layers - 1}" if beyond else None

    def misfit(self, options: Mapping[str, Any]) -> str | None:
        """Say which options this loop does not know."""
        unknown = sorted(set(options) - set(OPTIONS))
        return (
            f"it draws tokens in its own way and does not know {', '.join(unknown)}; it knows {', '.join(OPTIONS)}"
            if unknown
            else None
        )

    def interventions(self, model: Any) -> tuple[Intervention, ...]:
        """Return none: it acts on the choice of tokens."""
        return ()

    @property
    def passes(self) -> int:
        """One forward, one backward for the first draw and one for all the others; the release runs no backward."""
        return 3 if self.variant == "paper" else 1

    @property
    def decodes(self) -> bool:
        """Whether this brings a decoding loop: yes."""
        return True

    def decode(
        self, model: Any, prompt: Prompt, interventions: Sequence[Intervention], rules: Sequence[Any], **options: Any
    ) -> Reply:
        """Return a reply from rejection sampling under some interventions and logits processors."""
        ends, limit = end_tokens(model), options.get("max_new_tokens", 128)
        ids, logprobs = [], []
        least = MinNewTokensLengthLogitsProcessor(
            len(prompt), options.get("min_new_tokens") or 0, list(ends) or [0], model.device
        )
        walk = _Walk(self, model, prompt, interventions, LogitsProcessorList([*rules, least]), options.get("seed"))
        say: Callable[[str], None] | None = options.get("on_token")
        for token, logprob in walk.tokens(limit, ends):
            ids.append(token)
            logprobs.append(logprob)
            if say is not None:
                say(model.tokenizer.decode([token]))
        walk.now.close()
        return reply_of(model, prompt, ids, logprobs, ends, tuple(walk.now.audit), limit)

    def targets(self, layers: int) -> tuple[int, ...]:
        """Return the target layers of a model."""
        return tuple(range(layers // 2, layers)) if self.layers is None else tuple(sorted(set(self.layers)))

    def choice(
        self,
        probabilities: Sequence[float],
        salient: Callable[[Sequence[int]], Sequence[float]],
        past: Sequence[float],
        generator: Any,
    ) -> tuple[int, float]:
        """Return which candidate is taken, and its saliency.

        Args:
            probabilities: of the candidates; they need not sum to 1.
            salient: gives the saliency of some of them; asked for the first draw alone, and for all the others once it is refused.
            past: the saliency of the reply's tokens so far.
            generator: what the draws come from.
        """
        recent = past[-(self.window + 1) :]
        threshold = self.alpha * sum(recent) / len(recent) if recent else 0.0
        left, known = torch.tensor(probabilities, dtype=torch.float64), dict[int, float]()
        for _ in range(min(self.draws, int((left > 0).sum()))):
            drawn = int(torch.multinomial(left, 1, generator=generator))
            if drawn not in known:
                asked = [i for i in range(len(left)) if i not in known] if known else [drawn]
                known.update(zip(asked, salient(asked), strict=True))
            if known[drawn] >= threshold:
                return drawn, known[drawn]
            left[drawn] = 0
        asked = [i for i in range(len(left)) if i not in known]
        known.update(zip(asked, salient(asked) if asked else (), strict=True))
        best = max(known, key=lambda i: known[i])
        return best, known[best]


@final
class _Walk:
    """One reply on its way: the model's continuation, the patterns of its last step, and the saliency of the tokens so far."""

    def __init__(
        self,
        method: Sgrs,
        model: Any,
        prompt: Prompt,
        interventions: Sequence[Intervention],
        rules: Any,
        seed: int | None,
    ) -> None:
        self.method, self.rules = method, rules
        self.graded = method.variant == "paper" and method.candidates > 1
        self.targets = method.targets(model.layers)
        self.patterns: dict[int, Tensor] = {}
        self.past: list[float] = []
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)
        sites = frozenset({("decoder", "resid_pre"), ("decoder", "pattern")}) if self.graded else frozenset()
        upper = frozenset(range(self.targets[0], model.layers))
        rows = tokens(Segment.RESPONSE)  # local: no gradient for the cache, only for the row's own key and value
        self.text = Continuation(
            model, [prompt], interventions, wanted=sites, layers=upper, rows=rows, local=self.graded, reader=self._read
        )
        self.now = self.text.now
        self.ids = model.inputs([prompt])["input_ids"]

    def _read(self, value: Tensor, here: Here) -> Tensor:
        """Let gradients begin at the first target layer, and keep the patterns of the others."""
        if here.step == 0:
            return value
        if here.site == "pattern":
            self.patterns[here.layer] = value
            return value
        return value.detach().requires_grad_() if here.layer == self.targets[0] else value

    def tokens(self, limit: int, ends: set[int]) -> Iterator[tuple[int, float]]:
        """Go through the reply's tokens and their log-probabilities, as they are decided."""
        with torch.no_grad():
            logits = self.text.read()
        for index in range(limit):
            token, logprob = self._decide(logits)
            yield token, logprob
            if token in ends or index == limit - 1:
                return
            chosen = self.ids.new_tensor([token])
            self.ids = torch.cat([self.ids, chosen[None]], 1)
            with torch.set_grad_enabled(self.graded):
                logits = self.text.step(chosen)

    def _decide(self, logits: Tensor) -> tuple[int, float]:
        plain = logits.detach()
        with torch.no_grad():
            top = self.rules(self.ids, plain.clone()).softmax(-1)[0].topk(min(self.method.candidates, plain.shape[-1]))
        graded = logits[0].log_softmax(-1)[top.indices] if self.patterns else None
        reply = self.now.roles.mask(tokens(Segment.RESPONSE))[0]

        def salient(some: Sequence[int]) -> list[float]:
            if graded is None:
                return [0.0] * len(some)
            return saliency(graded[list(some)], [self.patterns[i] for i in self.targets], reply).tolist()

        home = torch.stack([top.values, plain[0].log_softmax(-1)[top.indices], top.indices.to(top.values)])
        probabilities, logprobs, ids = home.tolist()  # one wait for the device
        taken, score = self.method.choice(probabilities, salient, self.past, self.generator)
        if graded is not None:
            self.past.append(score)
            self.patterns.clear()
            self.text.settle()
        return int(ids[taken]), logprobs[taken]


def saliency(
    logprobs: Float[Tensor, " candidate"],
    patterns: Sequence[Float[Tensor, "1 head 1 key"]],
    counted: Bool[Tensor, " key"],
) -> Float[Tensor, " candidate"]:
    """Return the saliency of every candidate: the mean over layers and counted keys of Σ_h |A ⊙ ∂(-ln p)/∂A| / its norm over keys.

    In [0, 1]. One backward serves all candidates that are asked for; the graph stays for others.

    Args:
        logprobs: the candidates' log-probabilities, at the end of the graph.
        patterns: the row that predicts them, in each target layer, in the graph.
        counted: which keys the mean runs over.
    """
    if len(logprobs) == 1:
        gradients = [g[None] for g in torch.autograd.grad(logprobs[0], list(patterns), retain_graph=True)]
    else:
        one_each = torch.eye(len(logprobs), dtype=logprobs.dtype, device=logprobs.device)
        gradients = list(
            torch.autograd.grad(logprobs, list(patterns), one_each, is_grads_batched=True, retain_graph=True)
        )
    each = []
    for pattern, gradient in zip(patterns, gradients, strict=True):
        row = (pattern.detach() * gradient).abs().float().sum(2)[:, 0, 0]
        row = row / row.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        each.append(row[:, counted].mean(-1))
    return torch.stack(each).mean(0)
