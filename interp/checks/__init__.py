"""Conformance checks, one function per property.

base: `Check`, the outcome of one check, and `run_checks`.
model: what every tapped model must satisfy; runs when a model is loaded that no test covers.
change: what every intervention and method must satisfy.
analysis: what every analysis must satisfy.

Users call them through `interp.testing`.
"""
