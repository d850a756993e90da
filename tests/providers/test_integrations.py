"""Any other LlamaIndex package, by its name: found, imported on use, its class chosen."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_index.packs.mixture_of_agents.errors import ConfigurationError
from llama_index.packs.mixture_of_agents.providers import llm_named, parse_model
from llama_index.packs.mixture_of_agents.providers.integrations import is_installed

HEAD = """
from typing import Any
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM
"""
ONE = (
    HEAD
    + """
class {name}(ScriptedLLM):
    given: Any = None
    def __init__(self, model: str, api_key: str | None = None, window: int = 1) -> None:
        super().__init__("yes", model=model)
        self.given = (api_key, window)
"""
)
Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a package beside LlamaIndex's own, until the test is over."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def put(module: str, source: str) -> None:
        package = tmp_path / "llama_index" / "llms" / module
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(source, encoding="utf-8")
        importlib.invalidate_caches()

    yield put
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_package_is_found_by_its_name_and_imported_on_use(install: Install) -> None:
    assert not is_installed("foo-bar")
    install("foo_bar", ONE.format(name="FooBar"))
    model = parse_model("Foo_Bar:m:1")
    assert (model.provider, model.model) == ("foo-bar", "m:1")
    assert "llama_index.llms.foo_bar" not in sys.modules
    llm: Any = llm_named("foo-bar:m:1", settings={"window": 7}, env={"FOO_BAR_API_KEY": "key"})
    assert (type(llm).__name__, llm.model, llm.given) == ("FooBar", "m:1", ("key", 7))


def test_without_its_key_the_class_looks_for_itself(install: Install) -> None:
    install("foo_bar", ONE.format(name="Anything"))
    llm: Any = llm_named("foo-bar:m", env={})
    assert llm.given == (None, 1)


@pytest.mark.parametrize(("name", "chosen"), [("FooBar", True), ("FooBarLLM", True), ("FooChat", False)])
def test_of_several_classes_the_one_called_like_the_provider(
    install: Install, name: str, chosen: bool
) -> None:
    install("foo_bar", ONE.format(name=name) + ONE.format(name="Other"))
    if chosen:
        assert type(llm_named("foo-bar:m", env={})).__name__ == name
        return
    with pytest.raises(ConfigurationError, match="several LLM classes: FooChat, Other"):
        llm_named("foo-bar:m", env={})


def test_a_module_without_a_class_is_told(install: Install) -> None:
    install("foo_bar", HEAD)
    with pytest.raises(ConfigurationError, match="holds no LLM class"):
        llm_named("foo-bar:m", env={})


def test_a_class_that_takes_no_models_name_is_told(install: Install) -> None:
    source = ONE.format(name="FooBar").replace("model: str, ", "").replace("model=model", "model='x'")
    install("foo_bar", source)
    with pytest.raises(ConfigurationError, match="FooBar takes no model's name"):
        llm_named("foo-bar:m", env={})


def test_other_words_for_the_model_are_found(install: Install) -> None:
    install(
        "foo_bar",
        ONE.format(name="FooBar").replace("model: str", "model_name: str").replace("=model)", "=model_name)"),
    )
    assert llm_named("foo-bar:m", env={}).metadata.model_name == "m"


@pytest.mark.parametrize("error", ["ImportError('half')", "AttributeError('half')"])
def test_half_an_installation_is_told(install: Install, error: str) -> None:
    install("foo_bar", f"raise {error}")
    with pytest.raises(ConfigurationError, match=r"half.*pip install --upgrade llama-index-llms-foo-bar$"):
        llm_named("foo-bar:m", env={})


def test_a_class_that_fails_in_its_own_way_is_refused_without_its_key(install: Install) -> None:
    source = ONE.format(name="FooBar").replace(
        "self.given =", "raise RuntimeError(f'no {api_key}')\n        self.given ="
    )
    install("foo_bar", source)
    with pytest.raises(ConfigurationError, match="foo-bar:m cannot be used: no <FOO_BAR_API_KEY>"):
        llm_named("foo-bar:m", env={"FOO_BAR_API_KEY": "sesame-open-yourself"})


@pytest.mark.parametrize("provider", ["cohere", "azure-openai", "bedrock-converse"])
def test_a_known_package_that_is_missing_is_named(provider: str) -> None:
    if is_installed(provider):
        pytest.skip(f"{provider} is installed")
    with pytest.raises(ConfigurationError, match=f"Run: pip install llama-index-llms-{provider}$"):
        llm_named(f"{provider}:m", env={})


def test_a_model_of_the_hub_gets_its_tokenizer_too(install: Install) -> None:
    source = (
        HEAD
        + """
class HuggingFaceLLM(ScriptedLLM):
    given: Any = None
    def __init__(self, model_name: str, tokenizer_name: str, is_chat_model: bool = False) -> None:
        super().__init__("yes", model=model_name)
        self.given = (model_name, tokenizer_name, is_chat_model)
"""
    )
    real = sys.modules.pop("llama_index.llms.huggingface", None)
    try:
        install("huggingface", source)
        llm: Any = llm_named("huggingface:owner/name@main", env={})
    finally:
        if real is not None:
            sys.modules["llama_index.llms.huggingface"] = real
    assert llm.given == ("owner/name@main", "owner/name@main", True)
