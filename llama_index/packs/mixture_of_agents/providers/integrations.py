"""Any other `llama_index.llms.*` package, by its name: provider `foo-bar` is the module `foo_bar`.

It says whether one is installed without importing it. The list of names serves messages alone: a
package that is not in it works as well, once it is installed.
"""

from __future__ import annotations

import re
from importlib.util import find_spec

from llama_index.packs.mixture_of_agents.providers.table import Provider

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_NAMESPACE = "llama_index.llms"

INTEGRATIONS: tuple[str, ...] = (
    *("ai21", "alephalpha", "alibabacloud-aisearch", "anyscale", "asi", "azure-inference", "azure-openai"),
    *("baseten", "bedrock", "bedrock-converse", "cerebras", "clarifai", "cleanlab"),
    *("cloudflare-ai-gateway", "cohere", "cometapi", "contextual", "cortex", "dashscope", "databricks"),
    *("deepinfra", "deepseek", "everlyai", "fireworks", "friendli", "gaudi", "grok", "helicone", "heroku"),
    *("huggingface-api", "ibm", "keywordsai", "konko", "langchain", "litellm", "llama-api", "llama-cpp"),
    *("llamafile", "lmstudio", "localai", "maritalk", "meta", "minimax", "mistral-rs", "mlx", "modelscope"),
    *("monsterapi", "mymagic", "nebius", "netmind", "neutrino", "novita", "nvidia", "nvidia-tensorrt"),
    *("nvidia-triton", "oci-data-science", "oci-genai", "octoai", "opea", "openvino", "openvino-genai"),
    *("optimum-intel", "ovhcloud", "paieas", "perplexity", "pipeshift", "portkey", "predibase", "premai"),
    *("qianfan", "reka", "replicate", "rungpt", "sagemaker-endpoint", "sambanovasystems", "sarvam"),
    *("sglang", "siliconflow", "stepfun", "text-generation-inference", "upstage", "vercel-ai-gateway"),
    *("vertex", "vllm", "xinference", "yi", "you", "zhipuai"),
)
"""Integrations that LlamaIndex publishes as `llama-index-llms-...`, besides those of the table."""


def row_of(provider: str) -> Provider | None:
    """What is known of a provider by its name alone; None where there is no such package."""
    if provider not in INTEGRATIONS and not is_installed(provider):
        return None
    return Provider(
        module=module_of(provider),
        class_name="",
        package=f"llama-index-llms-{provider}",
        keys=(f"{provider.upper().replace('-', '_')}_API_KEY",),
        needs_key=False,
        model_arguments=(),
    )


def is_name(provider: str) -> bool:
    """Whether a package could be called so."""
    return _NAME.fullmatch(provider) is not None


def module_of(provider: str) -> str:
    """Where a provider's class would be."""
    return f"{_NAMESPACE}.{provider.replace('-', '_')}"


def is_installed(provider: str) -> bool:
    """Whether its package is there; nothing of it is imported."""
    return is_name(provider) and has_module(module_of(provider))


def has_module(module: str) -> bool:
    """Whether a module could be imported."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the namespace it would be in
        return False
