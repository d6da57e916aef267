"""Analyses: frozen settings that reduce each layer to a small partial, and the partials to a `Result`.

Read `base` first. Then one file per quantity: sinks, budget, saliency, visual anchors, spectra, and so on; `interp measure --help`
lists them. `statistics` holds functions that several of them share.
"""
