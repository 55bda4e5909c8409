"""Tiles in, a served model out: data, networks, fitting, calibration, export, evaluation.

The only package that may import tensorflow, keras, nncf, scikit-learn and matplotlib, and it does so lazily.
"""
