"""What a run keeps of one sample, and what one batch cost."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, final

from interp.bench.base import Sample
from interp.data.prompt import Reply


@final
@dataclass(frozen=True)
class Row:
    """One sample with its reply: everything that is needed to read and score it again without the model.

    Args:
        id: the sample's name, as are the next five fields its.
        reply: the reply's text.
        ids: its token ids.
        tokens: its tokens as text.
        logprobs: their natural log-probabilities; None where one is not finite.
        stop: why it ended.
        prompt: the length of the prompt, in tokens.
        error: why the sample has no reply; empty where it has one.
    """

    id: str
    question: str
    image: str = ""
    truth: Mapping[str, Any] = field(default_factory=dict)
    part: str = "all"
    group: str = ""
    reply: str = ""
    ids: tuple[int, ...] = ()
    tokens: tuple[str, ...] = ()
    logprobs: tuple[float | None, ...] = ()
    stop: str = ""
    prompt: int = 0
    error: str = ""

    @property
    def sample(self) -> Sample:
        """The sample."""
        return Sample(self.id, self.question, self.image, self.truth, self.part, self.group)

    def line(self) -> bytes:
        """Return it as one line of JSON; the same row is always the same bytes."""
        return written(asdict(self))

    @classmethod
    def from_line(cls, line: bytes) -> "Row":
        """Read a line.

        Raises:
            ValueError: it is no row: cut short, or written by something else.
        """
        given: Any = json.loads(line)
        if not isinstance(given, dict) or set(given) != {f.name for f in fields(cls)}:
            raise ValueError(f"no row of a run: {line[:60]!r}")
        settled: Any = {n: tuple(v) if isinstance(v, list) else v for n, v in given.items()}
        return cls(**settled)


@final
@dataclass(frozen=True)
class Cost:
    """What one batch cost.

    Args:
        batch: which.
        samples: how many replies it gave.
        tokens: how many new tokens they have.
        seconds: of `generate`, everything that a method does in it included.
        memory: peak bytes: what tensors took on the GPU, or what the process took without one.
    """

    batch: int
    samples: int
    tokens: int
    seconds: float
    memory: int

    def line(self) -> bytes:
        """Return it as one line of JSON."""
        return written(asdict(self))

    @classmethod
    def from_line(cls, line: bytes) -> "Cost":
        """Read a line.

        Raises:
            ValueError: it is none.
        """
        given = json.loads(line)
        if not isinstance(given, dict) or set(given) != {f.name for f in fields(cls)}:
            raise ValueError(f"no cost of a run: {line[:60]!r}")
        return cls(**given)


def written(data: Any) -> bytes:
    """Return data as one line of plain JSON."""
    return json.dumps(data, allow_nan=False).encode() + b"\n"


def row_of(sample: Sample, reply: Reply) -> Row:
    """Return a sample with its reply as a row."""
    return Row(
        **asdict(sample),
        reply=reply.text,
        ids=reply.ids,
        tokens=reply.tokens,
        logprobs=tuple(p if math.isfinite(p) else None for p in reply.logprobs),
        stop=reply.stop,
        prompt=len(reply.prompt),
    )


def failed(sample: Sample, error: Exception) -> Row:
    """Return a sample that could not be asked as a row."""
    return Row(**asdict(sample), error=f"{type(error).__name__}: {error}")
