"""A model is given its cache by the name it has for it: transformers renamed it in 5.24."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from llama_index.packs.mixture_of_agents.sparse_moe.serving.forward import LoadedModel
from tests.sparse_moe.tiny_models import tiny_mixtral

NAMES = ("cache", "past_key_values")


class _Renaming:
    """A model's forward, with its cache under another name; what it does not know it swallows, as there."""

    def __init__(self, computes: Any, name: str) -> None:
        self.given: list[Any] = []
        taken = inspect.signature(computes)
        (self._inner,) = set(NAMES) & set(taken.parameters)
        self._computes, self._name = computes, name
        renamed = [
            one.replace(name=name) if one.name == self._inner else one for one in taken.parameters.values()
        ]
        self.__signature__ = taken.replace(parameters=renamed)

    def __call__(self, **options: Any) -> Any:
        found = {name: options.pop(name, None) for name in NAMES}
        self.given.append(found[self._name])
        return self._computes(**options, **{self._inner: found[self._name]})


@pytest.mark.parametrize("name", NAMES)
def test_a_cache_goes_by_the_name_that_the_model_has_for_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_mixtral()
    forward = _Renaming(model.forward, name)
    monkeypatch.setattr(model, "forward", forward)

    LoadedModel(model)

    assert forward.given
    assert None not in forward.given
