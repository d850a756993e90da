"""What is written about configurations holds: the example loads, the page knows every key, its TOML works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llama_index.packs.mixture_of_agents.config import MixtureConfig, load_config
from llama_index.packs.mixture_of_agents.config.shaping import SYNONYMS
from llama_index.packs.mixture_of_agents.config.tables import (
    BudgetConfig,
    FinishConfig,
    LimitsConfig,
    PriceConfig,
    ProposerConfig,
    StopConfig,
    TraceConfig,
)
from llama_index.packs.mixture_of_agents.testing import ScriptedLLM

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_the_example_answers() -> None:
    config = load_config(ROOT / "examples" / "moa.toml").updated(trace=None, budget=None, limits={})
    pack = config.pack(lambda name, *, settings: ScriptedLLM(f"the answer is {name}", model=name))
    assert str(pack.run("Why?")) == "the answer is openai:gpt-4o"


def test_the_page_has_a_row_for_every_key() -> None:
    rows = re.findall(r"(?m)^\| `(\w+)` \|", PAGE.partition("## Keys")[2].partition("\n## ")[0])
    assert sorted(rows) == sorted(MixtureConfig.model_fields)
    assert all(f"`{name}` is `{ours}`" in PAGE.replace("\n", " ") for name, ours in SYNONYMS.items())


def test_the_page_knows_every_key_of_a_table() -> None:
    tables = (
        ProposerConfig,
        FinishConfig,
        StopConfig,
        BudgetConfig,
        TraceConfig,
        PriceConfig,
        LimitsConfig,
    )
    unsaid = [name for table in tables for name in table.model_fields if not re.search(rf"\b{name}\b", PAGE)]
    assert not unsaid


@pytest.mark.parametrize("text", re.findall(r"(?ms)^```toml\n(.*?)^```", PAGE))
def test_the_pages_toml_loads(tmp_path: Path, text: str) -> None:
    path = tmp_path / "moa.toml"
    path.write_text(text, encoding="utf-8")
    assert load_config(path).was_set
