"""SGRS: rejects a drawn token whose saliency on the reply so far is small compared with that of the tokens before it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.data.tokens import Segment, tokens
from interp.decoding.loop import Decoding, DecodingLoop, Search
from interp.interventions.here import Here


@final
@dataclass(frozen=True)
class Sgrs(DecodingLoop):
    """Saliency-guided rejection sampling, a decoding loop.

    At position P, the `candidates` most likely tokens are considered. Each has the saliency S(c) = mean over target layers and the
    reply's tokens j of S̄_j, where S_j = Σ_h |A ⊙ ∂(-ln p(c))/∂A| in row P-1, which predicts it, and S̄ is S divided by the row's
    Euclidean norm. Candidates are drawn by probability, at most `draws` times, until one has S(c) ≥ alpha · mean S of the reply's last
    `window` + 1 tokens; if none has, the one with the largest S is taken. The first token of a reply has no earlier reply token, so
    its first draw is accepted.

    Row P-1 reaches the loss through its own stream alone, so with cached keys and values as constants its gradient is exact. A
    step costs one forward pass and one backward pass from the logits to the first target layer for the first draw; if that is
    rejected, one more backward pass for all other candidates together.

    `variant="release"` follows the public code: it reads the candidate's own row, which its own prediction cannot depend
    on, so that every S is 0, every first draw is accepted, and the method samples among the `candidates`. It runs no backward pass.

    Args:
        candidates: K; 1 is neutral (greedy decoding).
        draws: R.
        alpha: the required share of the recent saliency; 0 accepts every draw.
        window: W; the tokens up to W before the last one, as in the paper's Eq. 7.
        layers: the target layers, by default the upper half.
        variant: the paper's method or the released code's.

    References: LVLMs-Saliency (2026), Eq. 5-7 and Algorithm 1, and its released code. Differs: row and norm are this project's
    interpretation, keys are the reply's alone (methods, decision 7); the loss is taken at the row that predicts the candidate.
    """

    candidates: int = 5
    draws: int = 3
    alpha: float = 0.6
    window: int = 5
    layers: tuple[int, ...] | None = None
    variant: Literal["paper", "release"] = "paper"
    procedure: ClassVar[str] = "rejection sampling"

    def __post_init__(self) -> None:
        """Check the settings.

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

    def obstacle(self, model: Any) -> str | None:
        """Return which of the target layers do not exist."""
        beyond = [i for i in self.layers or () if not 0 <= i < model.layers]
        return f"target layers {beyond} do not exist: it has layers 0..{model.layers - 1}" if beyond else None

    @property
    def passes(self) -> int:
        """One forward pass, one backward pass for the first draw and one for all others; the release runs no backward pass."""
        return 3 if self.variant == "paper" else 1

    def search(self, decoding: Decoding) -> Search:
        """Return the rejection sampling."""
        return _Sampling(self, decoding)

    def targets(self, layers: int) -> tuple[int, ...]:
        """Return the target layers of a model."""
        return tuple(range(layers // 2, layers)) if self.layers is None else tuple(sorted(set(self.layers)))

    def choose(
        self,
        probabilities: Sequence[float],
        salient: Callable[[Sequence[int]], Sequence[float]],
        past: Sequence[float],
        generator: Any,
    ) -> tuple[int, float]:
        """Return the index of the accepted candidate, and its saliency.

        Args:
            probabilities: of the candidates; they need not sum to 1.
            salient: returns the saliency of some of them; called for the first draw alone, then for all others once it is rejected.
            past: the saliency of the reply's tokens so far.
            generator: the random generator of the draws.
        """
        recent = past[-(self.window + 1) :]
        threshold = self.alpha * sum(recent) / len(recent) if recent else 0.0
        left, known = torch.tensor(probabilities, dtype=torch.float64), dict[int, float]()
        for _ in range(min(self.draws, int((left > 0).sum()))):
            drawn = int(torch.multinomial(left, 1, generator=generator))
            if drawn not in known:
                # One backward pass serves the first draw, which is mostly accepted, and one more all other candidates.
                some = [i for i in range(len(left)) if i not in known] if known else [drawn]
                known.update(zip(some, salient(some), strict=True))
            if known[drawn] >= threshold:
                return drawn, known[drawn]
            left[drawn] = 0
        others = [i for i in range(len(left)) if i not in known]
        known.update(zip(others, salient(others) if others else (), strict=True))
        best = max(known, key=lambda i: known[i])
        return best, known[best]


@final
class _Sampling(Search):
    """One reply: the model's continuation, the patterns of its last step, and the saliency of the tokens so far."""

    def __init__(self, method: Sgrs, decoding: Decoding) -> None:
        self.method, self.decoding = method, decoding
        self.graded = method.variant == "paper" and method.candidates > 1
        layers = decoding.model.layers
        self.targets = method.targets(layers)
        self.patterns: dict[int, Tensor] = {}
        self.past: list[float] = []
        self.generator = None if decoding.seed is None else torch.Generator().manual_seed(decoding.seed)
        sites = frozenset({("decoder", "resid_pre"), ("decoder", "pattern")}) if self.graded else frozenset()
        upper = frozenset(range(self.targets[0], layers))
        # local: only the row's own key and value get a gradient; the cached ones are constants.
        settings = {"rows": tokens(Segment.RESPONSE), "local": self.graded, "reader": self._read}
        self.text = decoding.continuation(reads=sites, layers=upper, **settings)
        self.reply = decoding.prompt_ids[:, :0]

    def _read(self, value: Tensor, here: Here) -> Tensor:
        """Start the graph at the first target layer, and record the patterns."""
        if here.step == 0:
            return value
        if here.site == "pattern":
            self.patterns[here.layer] = value
            return value
        return value.detach().requires_grad_() if here.layer == self.targets[0] else value

    def tokens(self) -> Iterator[tuple[int, float]]:
        """Yield the reply's tokens and their log-probabilities as they are accepted."""
        limit = self.decoding.max_new_tokens
        with torch.no_grad():
            logits = self.text.read()
        for index in range(limit):
            token, logprob = self._decide(logits)
            yield token, logprob
            if token in self.decoding.ends or index == limit - 1:
                return
            chosen = self.reply.new_tensor([token])
            self.reply = torch.cat([self.reply, chosen[None]], 1)
            with torch.set_grad_enabled(self.graded):
                logits = self.text.step(chosen)

    def _decide(self, logits: Tensor) -> tuple[int, float]:
        plain = logits.detach()
        with torch.no_grad():
            ruled = self.decoding.process(self.reply, plain)
            top = ruled.softmax(-1)[0].topk(min(self.method.candidates, plain.shape[-1]))
        graded = logits[0].log_softmax(-1)[top.indices] if self.patterns else None
        reply = self.text.now.masks.mask(tokens(Segment.RESPONSE))[0]

        def salient(some: Sequence[int]) -> list[float]:
            if graded is None:
                return [0.0] * len(some)
            return candidate_saliency(graded[list(some)], [self.patterns[i] for i in self.targets], reply).tolist()

        home = torch.stack([top.values, plain[0].log_softmax(-1)[top.indices], top.indices.to(top.values)])
        probabilities, logprobs, ids = home.tolist()  # stacked, so that the device is waited for once
        taken, score = self.method.choose(probabilities, salient, self.past, self.generator)
        if graded is not None:
            self.past.append(score)
            self.patterns.clear()
            self.text.detach_cache()  # otherwise each step's graph would hold those of all steps before it
        return int(ids[taken]), logprobs[taken]


def candidate_saliency(
    logprobs: Float[Tensor, " candidate"],
    patterns: Sequence[Float[Tensor, "1 head 1 key"]],
    counted: Bool[Tensor, " key"],
) -> Float[Tensor, " candidate"]:
    """Return the saliency of every candidate: the mean over layers and counted keys of Σ_h |A ⊙ ∂(-ln p)/∂A| / its norm over keys.

    In [0, 1]. One backward pass serves all given candidates; the graph is kept for others.

    Args:
        logprobs: the candidates' log-probabilities, at the end of the graph.
        patterns: the row that predicts them in each target layer, in the graph.
        counted: the keys that the mean runs over.
    """
    if len(logprobs) == 1:  # is_grads_batched runs through vmap, which a single gradient does not need
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
