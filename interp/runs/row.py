"""The records of a run, one JSON line each: a `Row` per sample, a `Cost` per batch."""

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
    """One sample with its reply: enough to read and score it again without the model.

    Args:
        id: the id of the sample; the next five fields are the sample's too.
        reply: the text of the reply.
        ids: its token ids.
        tokens: its tokens as text.
        logprobs: their natural log-probabilities; None where one is not finite.
        stop: why the reply ended.
        prompt: the length of the prompt, in tokens.
        error: why the sample has no reply; empty where it has a reply.
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
        """Return the row as one line of JSON; equal rows give equal bytes."""
        return _to_line(asdict(self))

    @classmethod
    def from_line(cls, line: bytes) -> "Row":
        """Read a line.

        Raises:
            ValueError: the line is not a row: it was cut short, or something else wrote it.
        """
        given: Any = json.loads(line)
        if not isinstance(given, dict) or set(given) != {f.name for f in fields(cls)}:
            raise ValueError(f"not a row of a run: {line[:60]!r}")
        settled: Any = {n: tuple(v) if isinstance(v, list) else v for n, v in given.items()}
        return cls(**settled)


@final
@dataclass(frozen=True)
class Cost:
    """The cost of one batch.

    Args:
        batch: its index.
        samples: the number of replies.
        tokens: the number of new tokens.
        seconds: wall-clock time of `generate`, including all work of the method.
        memory: peak bytes: of tensors on the GPU; without a GPU, of the process.
    """

    batch: int
    samples: int
    tokens: int
    seconds: float
    memory: int

    def line(self) -> bytes:
        """Return the record as one line of JSON."""
        return _to_line(asdict(self))

    @classmethod
    def from_line(cls, line: bytes) -> "Cost":
        """Read a line.

        Raises:
            ValueError: the line is not a cost record.
        """
        given = json.loads(line)
        if not isinstance(given, dict) or set(given) != {f.name for f in fields(cls)}:
            raise ValueError(f"not a cost record of a run: {line[:60]!r}")
        return cls(**given)


def _to_line(data: Any) -> bytes:
    """Return data as one line of JSON."""
    return json.dumps(data, allow_nan=False).encode() + b"\n"


def build_row(sample: Sample, reply: Reply) -> Row:
    """Return the row of a sample with its reply."""
    return Row(
        **asdict(sample),
        reply=reply.text,
        ids=reply.ids,
        tokens=reply.tokens,
        logprobs=tuple(p if math.isfinite(p) else None for p in reply.logprobs),
        stop=reply.stop,
        prompt=len(reply.prompt),
    )


def build_failed_row(sample: Sample, error: Exception) -> Row:
    """Return the row of a sample that could not be asked."""
    return Row(**asdict(sample), error=f"{type(error).__name__}: {error}")
