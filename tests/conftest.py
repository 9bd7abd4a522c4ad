"""Profiles for random tests, and skips that CI turns into failures."""

from __future__ import annotations

import os

import pytest

# The quick tests draw the same examples every time; GPUCONV_FULL=1 draws new ones, and more.
FULL = os.environ.get("GPUCONV_FULL") == "1"
try:
    from hypothesis import HealthCheck, settings
except ImportError:  # tests/gpu runs where little more than pytest is installed
    pass
else:
    common = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
    settings.register_profile("quick", derandomize=True, database=None, **common)
    settings.register_profile("full", **common)
    settings.load_profile("full" if FULL else "quick")


@pytest.fixture(scope="session")
def need():
    """Skip with a plain reason what this machine lacks, unless GPUCONV_REQUIRE names it."""
    required = set(filter(None, os.environ.get("GPUCONV_REQUIRE", "").split(",")))

    def missing(what: str, reason: str) -> None:
        if what in required:
            pytest.fail(f"GPUCONV_REQUIRE names {what}, but {reason}")
        pytest.skip(reason)

    return missing
