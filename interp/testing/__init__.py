"""Checks that users call on their own models, analyses, interventions, methods and benchmarks, and models with planted answers.

models: `check_model`, `check_family`, `sample_prompts`, `conformance_page`.
analyses: `check_analysis`.
interventions: `check_intervention`, `check_method`.
benchmarks: `check_benchmark`.
planted: models whose weights are written by hand, so that the right answer is known.
"""

from interp.checks.base import Check
from interp.checks.model import parts_of
from interp.testing.analyses import check_analysis
from interp.testing.benchmarks import check_benchmark
from interp.testing.interventions import check_intervention, check_method
from interp.testing.models import check_family, check_model, conformance_page, sample_prompts
from interp.testing.planted import Planted, planted_sink

__all__ = [
    "Check",
    "Planted",
    "check_analysis",
    "check_benchmark",
    "check_family",
    "check_intervention",
    "check_method",
    "check_model",
    "conformance_page",
    "parts_of",
    "planted_sink",
    "sample_prompts",
]
