"""Arrays in a page: unpacked, they are what was packed, within the promised error."""

import base64
import gzip

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp.report.packing import PackedArrays


def unpacked(block: PackedArrays) -> bytes:
    return gzip.decompress(base64.b64decode(block.encode()))


def read_rows(content: bytes, about: dict) -> np.ndarray:
    shape, rows = about["shape"], int(np.prod(about["shape"][:-1]))
    scale = np.frombuffer(content, "<f4", rows, about["scale"]).reshape(*shape[:-1], 1)
    codes = np.frombuffer(content, np.uint8, rows * shape[-1], about["codes"]).reshape(shape)
    return scale * (codes / 255.0) ** 2


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=5), st.floats(1e-12, 1e3))
def test_rows_come_back_within_what_is_promised(rows, times) -> None:
    values = torch.tensor(rows, dtype=torch.float64) * times
    block = PackedArrays()
    block.add_shares(torch.ones(3))  # something of another size before it
    about = block.add_rows(values)
    off = np.abs(read_rows(unpacked(block), about) - values.numpy())
    assert (off <= values.amax(-1, keepdim=True).numpy() * (1 / 255 + 1e-6) + 1e-37).all()
    assert about["scale"] % 4 == about["codes"] % 4 == 0


def test_zeros_and_largest_values_are_exact() -> None:
    values = torch.tensor([[0.0, 0.25, 0.0], [0.0, 0.0, 0.0]])
    block = PackedArrays()
    about = block.add_rows(values)
    np.testing.assert_array_equal(read_rows(unpacked(block), about), values.numpy())


def test_shares_are_kept_finely() -> None:
    values = torch.rand(4, 5, generator=torch.Generator().manual_seed(0))
    block = PackedArrays()
    about = block.add_shares(values)
    codes = np.frombuffer(unpacked(block), "<u2", 20, about["codes"]).reshape(about["shape"])
    assert codes / 65535 == pytest.approx(values.numpy(), abs=1 / 65535)


def test_the_same_arrays_are_the_same_text() -> None:
    made = []
    for _ in range(2):
        block = PackedArrays()
        block.add_rows(torch.arange(6.0).reshape(2, 3))
        made.append(block.encode())
    assert made[0] == made[1]
