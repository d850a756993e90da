"""Warnings that LlamaIndex's own agents raise, which tests of ours that use them let pass."""

from __future__ import annotations

import pytest

AGENTS_OWN = [
    # They look at every attribute they have, the deprecated ones of pydantic's too.
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211"),
    pytest.mark.filterwarnings("ignore:is_running called from within a step:DeprecationWarning"),
]
