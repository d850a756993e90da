"""Configuration files: found, read, and refused with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_index.packs.mixture_of_agents.config import NAMES, MixtureConfig, find_config, load_config
from llama_index.packs.mixture_of_agents.errors import ConfigurationError

SAME = {
    "moa.toml": 'proposers = ["fast", "b"]\nnum_layers = 2\n'
    '[models.fast]\nmodel = "openai:x"\ntemperature = 0.5\n',
    "moa.yaml": "proposers: [fast, b]\nlayer: 2\nmodels:\n  fast: {model: 'openai:x', temperature: 0.5}\n",
    "MOA.YML": "models_layer:\n- fast\n- b\nnum_layers: 2\n"
    "models: {fast: {model: 'openai:x', temperature: 0.5}}\n",
    "moa.json": '{"proposers": ["fast", "b"], "num_layers": 2, '
    '"models": {"fast": {"model": "openai:x", "temperature": 0.5}}}',
}


@pytest.mark.parametrize("name", SAME)
def test_each_kind_of_file_holds_the_same(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(f"\ufeff{SAME[name]}", encoding="utf-8")
    assert load_config(path) == MixtureConfig(
        proposers=["fast", "b"], layer=2, models={"fast": {"model": "openai:x", "temperature": 0.5}}
    )
    assert load_config(str(path)) == load_config(path)


@pytest.mark.parametrize("name", ["moa.toml", "moa.yaml"])
def test_an_empty_file_says_nothing(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("# nothing yet\n", encoding="utf-8")
    assert load_config(path) == MixtureConfig()


@pytest.mark.parametrize("number", ["5e-2", "1.5E+0", "1e-1", ".5e0", "1e0"])
def test_a_number_is_the_same_in_each_language(tmp_path: Path, number: str) -> None:
    (tmp_path / "m.yaml").write_text(f"proposers: [a]\ntemperature: {number}\n", encoding="utf-8")
    assert load_config(tmp_path / "m.yaml") == MixtureConfig(proposers=["a"], temperature=float(number))
    texts = MixtureConfig(proposers=[{"model": "a", "role": number}])
    (tmp_path / "t.yaml").write_text(texts.dump_yaml(), encoding="utf-8")
    assert load_config(tmp_path / "t.yaml") == texts


def test_a_yaml_anchor_may_be_used_twice(tmp_path: Path) -> None:
    path = tmp_path / "moa.yaml"
    path.write_text("proposers: [&a {model: m, seed: 1}, *a]\n", encoding="utf-8")
    assert load_config(path).proposers[0][0] == load_config(path).proposers[0][1]


def test_a_file_is_found_by_its_name(tmp_path: Path) -> None:
    assert find_config(tmp_path) is None
    for name in NAMES:
        (tmp_path / name).touch()
        assert find_config(tmp_path) == tmp_path / name
        (tmp_path / name).unlink()


def test_two_files_leave_it_open(tmp_path: Path) -> None:
    for name in ("moa.toml", "moa.yml"):
        (tmp_path / name).touch()
    with pytest.raises(ConfigurationError, match=r"holds moa.toml and moa.yml; name the one you mean"):
        find_config(tmp_path)


BOMB = "\n".join(
    ["x0: &x0 [a, a, a, a, a, a, a, a, a, a]"]
    + [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 12)]
)

REFUSALS = {
    "toml syntax": (
        "moa.toml",
        "layer = 2\ntemperature = = 3\n",
        ", line 2: the configuration: this is no TOML: Inv",
    ),
    "toml key twice": (
        "moa.toml",
        "layer = 2\nlayer = 3\n",
        ", line 2: the configuration: this is no TOML: Cannot",
    ),
    "toml value": (
        "moa.toml",
        "# a\nlayer = 2\n\ntemperature = 3\n",
        ", line 4: temperature must be a number betw",
    ),
    "toml table": ("moa.toml", "[budget]\nusd = -1\n", ", line 2: budget.usd must be a number between 0 and"),
    "toml alias cycle": (
        "moa.toml",
        '[models]\nfast = "quick"\nquick = "fast"\n',
        ", line 2: models.fast is a cycle of names: fast -> quick -> fast.",
    ),
    "toml date": (
        "moa.toml",
        "layer = 2024-01-01\n",
        ", line 1: layer must be a text, a number, true or false",
    ),
    "toml in a list": (
        "moa.toml",
        '[[proposers]]\nmodel = "a"\n[[proposers]]\nmodel = "b"\nmax_tokens = 0\n',
        ", line 5: proposers[1].max_tokens must be a whole number >= 1",
    ),
    "toml unknown": (
        "moa.toml",
        'agregator = "x"\n',
        ", line 1: agregator is no key here. Did you mean 'aggregator'?",
    ),
    "yaml syntax": ("moa.yaml", "a: 1\nb: [1\n", ", line 3: the configuration: this is no YAML: "),
    "yaml tab": ("moa.yaml", "a:\n\tb: 1\n", ", line 2: the configuration: this is no YAML: found character"),
    "yaml tag": (
        "moa.yaml",
        "a: !!python/object:os.system x\n",
        "line 1: the configuration: this is no YAML: could",
    ),
    "yaml key twice": ("moa.yaml", "layer: 2\nlayer: 3\n", "the key 'layer' stands here twice"),
    "yaml cycle": (
        "moa.yaml",
        "proposers: &a [*a]\n",
        "line 1: proposers[0] is a cycle: this alias stands inside",
    ),
    "yaml cycle of tables": ("moa.yaml", "budget: &b\n  usd: *b\n", "budget.usd is a cycle: this alias"),
    "yaml bomb": ("moa.yaml", BOMB, "holds more than 20000 values once its aliases are unfolded."),
    "yaml list": (
        "moa.yaml",
        "- a\n- b\n",
        ": the configuration must be a table of keys and values; found a list",
    ),
    "yaml number key": ("moa.yaml", "1: a\n", "the configuration must have texts as keys; found 1."),
    "yaml number key inside": (
        "moa.yaml",
        "models:\n  4: m\n",
        "line 1: models must have texts as keys; found 4.",
    ),
    "yaml value": (
        "moa.yml",
        "layer: two\n",
        "moa.yml, line 1: layer must be a whole number >= 1; found 'two'.",
    ),
    "json syntax": ("moa.json", '{\n"layer": 2,\n}', ", line 3: the configuration: this is no JSON: "),
    "json key twice": ("moa.json", '{"layer": 2, "layer": 3}', "the key 'layer' stands twice in one table"),
    "json nan": (
        "moa.json",
        '{"temperature": NaN}',
        "line 1: temperature must be a finite number; found nan.",
    ),
    "json surrogate": ("moa.json", '{"aggregator": "\\ud800"}', "line 1: aggregator holds half a character"),
    "json text": ("moa.json", '"x"', "the configuration must be a table of keys and values; found 'x'."),
    "json empty": ("moa.json", "", "this is no JSON"),
    "deep": ("moa.json", '{"models": ' + "[" * 5000 + "]" * 5000 + "}", ""),
    "control character": ("moa.yaml", "a: \0\n", "this is no YAML: special characters are not allowed"),
}


@pytest.mark.parametrize(("name", "text", "said"), REFUSALS.values(), ids=REFUSALS)
def test_a_file_that_cannot_work_is_refused(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as refusal:
        load_config(path)
    assert str(refusal.value).startswith(str(path))
    assert said in str(refusal.value)


def test_each_fault_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "moa.toml"
    path.write_text("layer = 0\n\nquorum = 0\n", encoding="utf-8")
    with pytest.raises(ConfigurationError) as refusal:
        load_config(path)
    first, second = str(refusal.value).splitlines()
    assert first.startswith(f"{path}, line 1: layer must be")
    assert second.startswith(f"{path}, line 3: quorum must be")


@pytest.mark.parametrize("name", ["moa.ini", "moa", "moa.toml.bak"])
def test_other_endings_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"name ends in .toml, .yaml, .yml, .json; found"):
        load_config(tmp_path / name)


def test_a_missing_file_says_how_to_begin(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"There is no file .*moa.toml. `moa config init` writes one"
    ):
        load_config(tmp_path / "moa.toml")


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "moa.toml"
    path.write_bytes(b"\xff\xfe\x00layer")
    with pytest.raises(ConfigurationError, match="is not text in UTF-8"):
        load_config(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_config(path)


def test_a_file_of_another_kind_is_not_read_through(tmp_path: Path) -> None:
    path = tmp_path / "moa.json"
    path.write_bytes(b" " * 1_000_001)
    with pytest.raises(ConfigurationError, match="more than 1000000 bytes"):
        load_config(path)
