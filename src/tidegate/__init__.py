"""Serves machine-learning models and lets a new version through only as far as the evidence allows."""

__version__ = "0.1.0"
