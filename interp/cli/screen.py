"""Terminal output: results on stdout, progress and messages on stderr."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table

WIDE = 150
"""The width of a table, in columns, when the output is not a terminal."""
NAME = 40
"""The longest first column, in letters, that is never wrapped."""


def out() -> Console:
    """Return the console of results; a pipe or a file has the width of a wide terminal."""
    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    return console


def err() -> Console:
    """Return the console of progress and messages."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


def say(text: str) -> None:
    """Print a line of results verbatim, without interpreting markup."""
    out().print(text, markup=False, emoji=False)


def as_json(data: Any) -> None:
    """Print plain data as JSON."""
    out().print(json.dumps(data, indent=1, ensure_ascii=False), markup=False, emoji=False)


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
    """Print a table; a cell may hold any text."""
    from rich.text import Text

    drawn = Table(title=title or None, title_justify="left", header_style="bold", title_style="bold")
    names_are_short = all(len(str(row[0])) <= NAME for row in rows)
    for index, head in enumerate(heads):
        drawn.add_column(head, overflow="fold", no_wrap=index == 0 and names_are_short)
    for row in rows:
        drawn.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    out().print(drawn)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show a spinner on stderr during the block, if stderr is a terminal."""
    with err().status(what):
        yield


@contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[str], None]]:
    """Show a progress bar on stderr; call the yielded function with a short text at the start of every step."""
    from tqdm import tqdm

    with tqdm(total=total, desc=what, unit="step", dynamic_ncols=True, mininterval=0.5) as bar:
        started = False

        def tell(now: str) -> None:
            nonlocal started
            if started and bar.n < total:
                bar.update()
            started = True
            bar.set_description(now)

        yield tell
        bar.update(max(total - bar.n, 0))
        bar.set_description(what)
