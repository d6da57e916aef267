"""Conformance checks, one function per property.

model: what every tapped model must satisfy; runs when a model is loaded that no test covers.
change: what every intervention and method must satisfy.

`interp.testing` is the door through which users call them.
"""
