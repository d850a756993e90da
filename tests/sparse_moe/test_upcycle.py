"""Upcycling gives a whole, stock checkpoint that computes what the dense model computes, or nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, MixtralForCausalLM, PreTrainedModel

from llama_index.packs.mixture_of_agents.errors import ConfigurationError, MissingExtraError
from llama_index.packs.mixture_of_agents.sparse_moe import SparseMoELLM, loading, upcycle
from llama_index.packs.mixture_of_agents.sparse_moe.upcycling import shards as shards_module
from tests.sparse_moe import tiny_models

ROOT = Path(__file__).parents[2]
PROBE_1S = torch.tensor([[3, 14, 15, 92, 65, 35, 89, 79, 32, 38, 46, 26]])


def _logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(PROBE_1S).logits
    return logits


def _stock(folder: Path) -> MixtralForCausalLM:
    found: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    loaded, report = found
    assert isinstance(loaded, MixtralForCausalLM)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return loaded


@pytest.mark.parametrize(
    ("changes", "experts", "top_k"),
    [
        ({}, 4, 2),
        ({}, 2, 1),
        ({}, 3, 3),
        ({"tie_word_embeddings": True}, 4, 2),
        ({"head_dim": 16}, 4, 2),
        ({"num_key_value_heads": 4}, 4, 2),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}, 4, 2),
        (
            {
                "rope_parameters": {
                    "rope_type": "llama3", "rope_theta": 1000.0, "factor": 8.0, "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
                }
            },
            4, 2,
        ),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1000.0, "factor": 4.0}}, 4, 2),
        ({"rms_norm_eps": 1e-2, "hidden_act": "gelu"}, 4, 2),
    ],
)  # fmt: skip
def test_logits_are_the_dense_models(
    tmp_path: Path, changes: dict[str, Any], experts: int, top_k: int
) -> None:
    dense = tiny_models.tiny_llama(**changes)
    source = tiny_models.save(dense, tmp_path / "dense")
    mixture = _stock(upcycle(source, tmp_path / "moe", experts=experts, top_k=top_k))
    assert (mixture.config.num_local_experts, mixture.config.num_experts_per_tok) == (experts, top_k)
    assert float((_logits(mixture) - _logits(dense)).abs().max()) < 1e-4


def test_the_result_opens_and_answers_like_the_dense_model(dense_folder: Path, tmp_path: Path) -> None:
    llm = SparseMoELLM(upcycle(str(dense_folder), str(tmp_path / "moe")), temperature=0.0, max_new_tokens=25)
    assert llm.metadata.is_chat_model
    dense = tiny_models.tiny_llama()
    tokenizer = tiny_models.tiny_tokenizer()
    expected = tiny_models.oracle_ids(dense, tokenizer("Hello")["input_ids"], 25)
    assert llm.complete("Hello").text == tokenizer.decode(expected, skip_special_tokens=True)


def test_what_lies_in_the_folder(dense_folder: Path, tmp_path: Path) -> None:
    source = shutil.copytree(dense_folder, tmp_path / "dense")
    card = "---\nlanguage: en\nlicense: apache-2.0\n---\n# Tiny\n"
    (source / "README.md").write_text(card, encoding="utf-8")
    (source / "LICENSE").write_text("the licence", encoding="utf-8")
    made = upcycle(source, tmp_path / "deep" / "moe")
    names = {path.name for path in made.iterdir()}
    assert names == {path.name for path in source.iterdir()}
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json", "LICENSE"):
        assert (made / name).read_bytes() == (source / name).read_bytes()
    written = (made / "README.md").read_text(encoding="utf-8")
    assert written.startswith("---\nlicense: apache-2.0\n---\n\n# dense, upcycled to 4 experts")
    config = json.loads((made / "config.json").read_text(encoding="utf-8"))
    assert (config["architectures"], config["dtype"]) == (["MixtralForCausalLM"], "float32")
    assert os.listdir(tmp_path / "deep") == ["moe"], "nothing is left beside it"
    modes = {path.stat().st_mode & 0o777 for path in made.iterdir()}
    assert modes == {(made.stat().st_mode & 0o666)}


def test_experts_are_copies_and_the_router_tells_tokens_apart(dense_folder: Path, tmp_path: Path) -> None:
    weights = load_file(upcycle(dense_folder, tmp_path / "moe", experts=3) / "model.safetensors")
    prefix = "model.layers.1.block_sparse_moe"
    dense = load_file(dense_folder / "model.safetensors")
    for index in range(3):
        for part, name in (("w1", "gate_proj"), ("w2", "down_proj"), ("w3", "up_proj")):
            copied = weights[f"{prefix}.experts.{index}.{part}.weight"]
            assert torch.equal(copied, dense[f"model.layers.1.mlp.{name}.weight"])
    assert weights[f"{prefix}.gate.weight"].std() > 0.1
    assert not torch.equal(
        weights[f"{prefix}.gate.weight"], weights["model.layers.0.block_sparse_moe.gate.weight"]
    )


def test_the_same_source_gives_the_same_files(dense_folder: Path, tmp_path: Path) -> None:
    one, two = upcycle(dense_folder, tmp_path / "one"), upcycle(dense_folder, tmp_path / "two")
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes()


def test_bfloat16_stays_bfloat16(tmp_path: Path) -> None:
    source = tiny_models.save(tiny_models.tiny_llama().bfloat16(), tmp_path / "dense")
    made = upcycle(source, tmp_path / "moe")
    assert {tensor.dtype for tensor in load_file(made / "model.safetensors").values()} == {torch.bfloat16}
    assert SparseMoELLM(made, temperature=0.0).complete("Hello", max_tokens=3).text


def test_large_models_are_written_in_shards(
    dense_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _logits(_stock(upcycle(dense_folder, tmp_path / "whole")))
    monkeypatch.setattr(shards_module, "_SHARD_BYTES", 50_000)
    made = upcycle(dense_folder, tmp_path / "sharded")
    shards = sorted(path.name for path in made.glob("*.safetensors"))
    assert len(shards) > 2
    assert shards[0] == f"model-00001-of-{len(shards):05d}.safetensors"
    assert torch.equal(_logits(_stock(made)), whole)
    assert SparseMoELLM(made, temperature=0.0).complete("Hello", max_tokens=3).text


def test_sharded_sources_are_read(tmp_path: Path) -> None:
    dense = tiny_models.tiny_llama()
    source = tiny_models.save(dense, tmp_path / "dense", shards="30KB")
    assert len(list(source.glob("*.safetensors"))) > 1
    mixture = _stock(upcycle(source, tmp_path / "moe"))
    assert float((_logits(mixture) - _logits(dense)).abs().max()) < 1e-4


def test_progress_is_told(dense_folder: Path, tmp_path: Path) -> None:
    stages: list[str] = []
    upcycle(dense_folder, tmp_path / "moe", progress=stages.append)
    made = f"made {tmp_path / 'moe'}"
    assert stages == ["reading tiny-llama", "layer 1 of 2", "layer 2 of 2", "writing to disk", made]


@pytest.fixture
def source(dense_folder: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(dense_folder, tmp_path / "source")


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")

    return change


def _weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return rewrite


def _truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_config(attention_bias=True), "has attention_bias, which MixtralForCausalLM has no place for"),
        (_config(mlp_bias=True), "has mlp_bias"),
        (_config(model_type="gpt2", architectures=["GPT2LMHeadModel"]), "is GPT2LMHeadModel; only dense"),
        (_config(model_type="mixtral", num_local_experts=4), "is a mixture of experts already"),
        (_config(quantization_config={"quant_method": "gptq"}), "has quantised weights"),
        (_config(hidden_size="wide"), "is not a valid LlamaForCausalLM config"),
        (_config(head_dim=4), r"has shape \(32, 32\), its config says \(16, 32\)"),
        (_config(num_hidden_layers=3), "lacks 9 tensors, first model.layers.2"),
        (_config(num_hidden_layers=1), "has 9 tensors that Mixtral.* no place for, first model.layers.1"),
        (_weights(lambda tensors: tensors.pop("lm_head.weight")), "lacks 1 tensors, first lm_head.weight"),
        (
            _weights(lambda held: held.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(32)})),
            "no place for, first model.layers.0.self_attn.q_proj.bias",
        ),
        (
            _weights(lambda held: held.update({"model.norm.weight": torch.ones(32, dtype=torch.int8)})),
            "model.norm.weight in .* holds int8, not float32",
        ),
        (_truncate, "is truncated or damaged"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer in"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "a.bin"), "are pickled"),
    ],
)  # fmt: skip
def test_what_does_not_map_is_refused_and_leaves_nothing(
    source: Path, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    change(source)
    with pytest.raises(ConfigurationError, match=message):
        upcycle(source, tmp_path / "moe")
    assert os.listdir(tmp_path) == ["source"]


def test_rotary_tables_of_old_checkpoints_are_left_out(source: Path, tmp_path: Path) -> None:
    table = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    _weights(lambda tensors: tensors.update(table))(source)
    _stock(upcycle(source, tmp_path / "moe"))


def test_bad_arguments_are_refused_before_anything_is_read(source: Path, tmp_path: Path) -> None:
    (source / "config.json").unlink()
    for options, message in (({"experts": 1}, "experts=1"), ({"noise": -1.0}, "noise=-1.0")):
        with pytest.raises(ConfigurationError, match=message):
            upcycle(source, tmp_path / "moe", **options)
    assert os.listdir(tmp_path) == ["source"]


def test_bad_places(source: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").write_text("precious", encoding="utf-8")
    (tmp_path / "file").write_text("precious", encoding="utf-8")
    cases = [
        (tmp_path / "nowhere", "moe", "no model at .*nowhere"),
        (tmp_path / "file", "moe", "neither a checkpoint directory nor a .gguf file"),
        (source, "full", "full exists and is not an empty folder"),
        (source, "file", "file exists and is not an empty folder"),
        (source, "file/moe", "cannot write beside"),
        (source, "source", "source exists and is not an empty folder"),
    ]
    for origin, target, message in cases:
        with pytest.raises(ConfigurationError, match=message):
            upcycle(origin, tmp_path / target)
    assert (tmp_path / "full" / "something").read_text(encoding="utf-8") == "precious"


def test_an_empty_folder_may_be_filled(source: Path, tmp_path: Path) -> None:
    (tmp_path / "moe").mkdir()
    assert (upcycle(source, tmp_path / "moe") / "config.json").is_file()


def test_a_full_disk_is_noticed_before_writing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(ConfigurationError, match=r"the mixture needs .* GB"):
        upcycle(source, tmp_path / "moe")
    assert os.listdir(tmp_path) == ["source"]


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_an_error_in_the_middle_leaves_nothing(
    source: Path, tmp_path: Path, kind: type[BaseException]
) -> None:
    def fail(stage: str) -> None:
        if stage == "layer 2 of 2":
            raise kind

    with pytest.raises(kind):
        upcycle(source, tmp_path / "moe", progress=fail)
    assert os.listdir(tmp_path) == ["source"]


WAIT_IN_THE_MIDDLE = """
import sys, time
from llama_index.packs.mixture_of_agents.sparse_moe import upcycle
def tell(stage):
    print(stage, flush=True)
    if stage == "writing to disk":
        time.sleep(60)
upcycle(sys.argv[1], sys.argv[2], progress=tell)
"""


def test_killed_in_the_middle_nothing_is_there_and_the_next_run_cleans_up(
    source: Path, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    command = [sys.executable, "-W", "ignore", "-c", WAIT_IN_THE_MIDDLE, str(source), str(place / "moe")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert any(line == "writing to disk\n" for line in running.stdout)
        (partial,) = place.iterdir()
        os.utime(partial, (1, 1))
        upcycle(source, place / "other")
        beside = upcycle(source, place / "moe-too")
        assert partial.exists(), "a living writer's folder is not another destination's business"
        running.send_signal(signal.SIGKILL)
    assert {path.name for path in place.iterdir()} == {partial.name, "other", beside.name}
    os.utime(partial, (1, 1))
    upcycle(source, place / "moe")
    assert {path.name for path in place.iterdir()} == {"moe", "other", beside.name}


def test_a_missing_extra_is_named(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"upcycle needs the 'sparse-moe' extra"):
        upcycle(source, tmp_path / "moe")


def test_the_tokenizer_still_writes_conversations(source: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(upcycle(source, tmp_path / "moe"))
    text = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert text == "<|im_start|>user\nx<|im_end|>\n"
