"""Flushing of denormal numbers is put back."""

import pytest
import torch

from interp.world.denormals import flush_denormals

SMALL = 1e-310


def product():
    return float(torch.tensor([SMALL], dtype=torch.float64) * 1.0)


@flush_denormals()
def decorated():
    return product()


def test_denormals_are_zero_only_while_it_is_open():
    assert product() == SMALL
    with flush_denormals():
        assert product() == 0
        with flush_denormals():
            assert product() == 0
        assert product() == 0
    assert product() == SMALL
    assert decorated() == 0
    assert product() == SMALL


def test_an_error_puts_it_back():
    with pytest.raises(KeyError), flush_denormals():
        raise KeyError
    assert product() == SMALL
