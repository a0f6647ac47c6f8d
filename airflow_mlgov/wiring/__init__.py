"""Settings to stores, signers, registries and platforms: where ports meet implementations."""

from __future__ import annotations
