"""OpenLineage datasets, facets and events for governed models."""

from __future__ import annotations
