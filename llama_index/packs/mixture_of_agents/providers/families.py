"""From a bare model name to who serves it: `claude-3-haiku` is Anthropic's, by how it begins.

A table of patterns, read from the top; the first that fits decides. What several providers serve stays
open, and the caller is told the choices. It knows spellings, not which models there are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

_OPEN = ("groq", "ollama", "together", "openrouter")
"""Who serves open weights, each under a spelling of its own."""


@dataclass(frozen=True)
class Family:
    """Models that are named alike.

    Attributes:
        pattern: A shell pattern for their names, in lower case.
        providers: Who serves them; with several of them the name alone does not decide.
    """

    pattern: str
    providers: tuple[str, ...]

    @property
    def stem(self) -> str:
        """What their names begin with; empty where it is the ending that tells."""
        return re.split(r"[*\[]", self.pattern)[0]


FAMILIES: tuple[Family, ...] = (
    # Endings that only Groq uses
    Family("*-instant", ("groq",)),
    Family("*-versatile", ("groq",)),
    Family("*-specdec", ("groq",)),
    Family("*-8192", ("groq",)),
    Family("*-32768", ("groq",)),
    # OpenAI; its open weights first
    Family("gpt-oss*", _OPEN),
    Family("gpt-*", ("openai",)),
    Family("chatgpt-*", ("openai",)),
    Family("o[1-9]", ("openai",)),
    Family("o[1-9]-*", ("openai",)),
    Family("claude-*", ("anthropic",)),
    # Mistral; its open weights first
    Family("mistral-7b*", _OPEN),
    Family("mixtral*", _OPEN),
    Family("mistral-*", ("mistralai",)),
    Family("open-mistral-*", ("mistralai",)),
    Family("open-mixtral-*", ("mistralai",)),
    Family("ministral-*", ("mistralai",)),
    Family("magistral-*", ("mistralai",)),
    Family("codestral*", ("mistralai",)),
    Family("devstral-*", ("mistralai",)),
    Family("pixtral-*", ("mistralai",)),
    Family("gemini-*", ("google-genai",)),
    Family("gemma*", ("google-genai", *_OPEN)),
    Family("command-*", ("cohere",)),
    Family("c4ai-*", ("cohere",)),
    Family("sonar*", ("perplexity",)),
    Family("deepseek-chat", ("deepseek",)),
    Family("deepseek-reasoner", ("deepseek",)),
    Family("deepseek*", _OPEN),
    Family("qwen-max*", ("dashscope",)),
    Family("qwen-plus*", ("dashscope",)),
    Family("qwen-turbo*", ("dashscope",)),
    Family("qwen-flash*", ("dashscope",)),
    Family("qwen*", _OPEN),
    Family("qwq*", _OPEN),
    Family("llama*", _OPEN),
    Family("phi*", ("ollama", "together", "openrouter")),
    Family("kimi*", ("groq", "together", "openrouter")),
    Family("grok-*", ("grok", "openrouter")),
    Family("glm-*", ("zhipuai", "together", "openrouter")),
    Family("smollm*", ("ollama", "huggingface")),
)

FULL_NAMES: Mapping[str, str] = {
    "claude-3-haiku": "claude-3-haiku-20240307",
    "claude-3-5-haiku": "claude-3-5-haiku-latest",
    "claude-3-7-sonnet": "claude-3-7-sonnet-latest",
    "claude-sonnet-4": "claude-sonnet-4-0",
    "claude-opus-4": "claude-opus-4-0",
    "mistral-small": "mistral-small-latest",
    "mistral-medium": "mistral-medium-latest",
    "mistral-large": "mistral-large-latest",
    "ministral-3b": "ministral-3b-latest",
    "ministral-8b": "ministral-8b-latest",
    "magistral-small": "magistral-small-latest",
    "magistral-medium": "magistral-medium-latest",
    "devstral-small": "devstral-small-latest",
    "devstral-medium": "devstral-medium-latest",
    "pixtral-large": "pixtral-large-latest",
    "codestral": "codestral-latest",
}
"""Short names people use -> what the provider calls the model."""


def family_of(model: str) -> Family | None:
    """The family a bare name belongs to."""
    spelled = model.lower()
    return next((family for family in FAMILIES if fnmatchcase(spelled, family.pattern)), None)


def nearest_family(model: str) -> Family | None:
    """The family a misspelled name may have been meant for."""
    stems: dict[str, Family] = {}
    for family in FAMILIES:
        stems.setdefault(family.stem.rstrip("-"), family)
    beginning = re.split(r"[^a-z]", model.lower())[0]
    close = get_close_matches(beginning, [stem for stem in stems if stem], n=1)
    return stems[close[0]] if close else None
