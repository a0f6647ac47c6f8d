"""Lets the asserts of the shared contract say what they compared."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("registry_contract")
