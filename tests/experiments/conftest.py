"""What tests of experiments share: a planted model and a prompt for it."""

import pytest

from interp.testing.planted import planted_sink


@pytest.fixture(scope="module")
def planted():
    return planted_sink()


@pytest.fixture(scope="module")
def prompt(planted):
    return planted.model.prepare(text="cafebabedeadbeef")
