"""The tests that model validators run, by family: numpy and scipy in, results out."""

from __future__ import annotations
