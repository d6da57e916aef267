"""The check of benchmarks as users call it: a fault is named."""

from interp.bench.base import build_benchmark
from interp.testing import check_benchmark


def test_repeated_ids_are_noticed(monkeypatch):
    benchmark = build_benchmark("pope", n=2)
    assert [c for c in check_benchmark(benchmark) if not c.passed] == []
    samples = list(benchmark.samples())
    monkeypatch.setattr(type(benchmark), "samples", lambda self: samples * 2)
    failed = {c.name: c.detail for c in check_benchmark(benchmark) if not c.passed}
    assert "a benchmark needs samples with unique ids" in failed["samples"]
