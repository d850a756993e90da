"""`moa experts`: how a model sends a prompt's tokens to its experts, as a map on the terminal or an image.

Everything that can be refused is refused before a model is fetched or loaded. The model itself is
looked into by `sparse_moe.inspection`; what is drawn is decided by `heat_map`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from llama_index.packs.mixture_of_agents.app import heat_image, heat_map
from llama_index.packs.mixture_of_agents.app.choosing import view_for
from llama_index.packs.mixture_of_agents.app.preparing import default_directory
from llama_index.packs.mixture_of_agents.app.statuses import note
from llama_index.packs.mixture_of_agents.app.view import View
from llama_index.packs.mixture_of_agents.errors import ConfigurationError

if TYPE_CHECKING:
    from llama_index.packs.mixture_of_agents.sparse_moe.inspection import Inspection
    from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings

DEFAULT_MODEL = "default"
WAYS = ("layer", "token")
_PREFIX = "sparse-moe:"


@dataclass(frozen=True)
class Look:
    """What the caller wants to see.

    Attributes:
        model: A directory, with or without "sparse-moe:" before it; "default" for the embedded one.
        prompt: What the model reads.
        routing: Settings of `RoutingSettings` by name, those that are set.
        as_chat: Whether the prompt is put into the chat template.
        max_tokens: How many tokens of an answer are looked at too.
        by: "layer" for layers by experts, "token" for one layer's tokens by experts.
        layer: Which layer; None for the most uneven one.
        output: An image to write.
        as_json: Print numbers in place of the map.
    """

    model: str
    prompt: str
    routing: dict[str, Any]
    as_chat: bool = False
    max_tokens: int = 0
    by: str = "layer"
    layer: int | None = None
    output: Path | None = None
    as_json: bool = False


def prompt_from(text: str | None, file: Path | None, stdin: TextIO | None) -> str:
    """The prompt: the text itself, a file's content, or what is piped in.

    Raises:
        ConfigurationError: There is none, there are two, or it is not text.
    """
    if text is not None and file is not None:
        raise ConfigurationError("Both --prompt and --prompt-file; leave one out.")
    try:
        if file is not None:
            found = file.read_text(encoding="utf-8")
        elif text is not None and text != "-":
            found = text
        elif stdin is None or (text is None and stdin.isatty()):
            raise ConfigurationError('No prompt. Pass --prompt "...", --prompt-file FILE, or pipe it in.')
        else:
            found = stdin.read()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"The prompt is not text ({error}); it must be UTF-8.") from error
    except OSError as error:
        raise ConfigurationError(f"The prompt cannot be read: {error}; name a file that is there.") from error
    if not found.strip():
        raise ConfigurationError("The prompt is empty; write something for the model to read.")
    return found


def show(look: Look) -> None:
    """Run the prompt and draw what was seen.

    Raises:
        ConfigurationError: Something cannot work.
        SparseMoEError: The model could not be loaded or run.
    """
    settings = _checked(look)
    view = view_for(as_json=look.as_json)
    try:
        seen = _seen(look, settings, view)
    finally:
        view.close()
    if look.layer is not None and look.layer >= len(seen.layers):
        raise ConfigurationError(
            f"--layer {look.layer} is not there: {seen.model} has MoE layers 0 to {len(seen.layers) - 1}."
        )
    heat = drawn(seen, settings, look)
    if look.as_json:
        sys.stdout.write(json.dumps(document(seen, look), indent=2) + "\n")
    else:
        _print(heat)
    if look.output is not None:
        heat_image.write_image(heat, look.output)
        note(f"{look.output} is written")


def drawn(seen: Inspection, settings: RoutingSettings, look: Look) -> heat_map.HeatMap:
    """The map the caller wants."""
    if look.by == "layer":
        return heat_map.map_of_layers(seen, settings)
    return heat_map.map_of_tokens(seen, settings, look.layer)


def document(seen: Inspection, look: Look) -> dict[str, Any]:
    """The same as numbers, for JSON; every token's choices only where tokens were asked for."""
    found: dict[str, Any] = {
        "model": seen.model,
        "prompt_tokens": seen.prompt_tokens,
        "completion_tokens": len(seen.token_ids) - seen.prompt_tokens,
        "settings": look.routing,
        "sparse_moe": seen.stats.to_dict(),
    }
    if look.by == "layer":
        return found
    wanted = [layer for layer in seen.layers if look.layer in (None, layer.label.index)]
    choices = [
        {
            "layer": layer.label.index,
            "experts": layer.experts_TK.tolist(),
            "weights": layer.weights_TK.tolist(),
            "kept": layer.kept_TK.tolist(),
            "rerouted": layer.rerouted_TK.tolist(),
        }
        for layer in wanted
    ]
    return {**found, "tokens": list(seen.token_texts), "choices": choices}


def _checked(look: Look) -> RoutingSettings:
    """Refuse what the model need not be asked about."""
    if look.by not in WAYS:
        raise ConfigurationError(f"--by {look.by!r} is not valid; it must be one of {', '.join(WAYS)}.")
    if look.layer is not None and (look.by != "token" or look.layer < 0):
        raise ConfigurationError(
            f"--layer {look.layer} is not valid: it picks the layer of a map of tokens, from 0 on; "
            "use it with --by token."
        )
    if look.max_tokens < 0:
        raise ConfigurationError(f"--max-tokens {look.max_tokens} is not valid; it must be 0 or more.")
    if look.output is not None:
        heat_image.check_image(look.output)
    # Not at the top: the application reaches optional parts on use.
    from llama_index.packs.mixture_of_agents.sparse_moe.loading import require_extra
    from llama_index.packs.mixture_of_agents.sparse_moe.routing import RoutingSettings

    require_extra("Looking into a model")
    return RoutingSettings(**look.routing)


def _seen(look: Look, settings: RoutingSettings, view: View) -> Inspection:
    from llama_index.packs.mixture_of_agents.sparse_moe.inspection import inspect_prompt

    is_default = look.model == DEFAULT_MODEL
    directory = default_directory(view) if is_default else Path(look.model.removeprefix(_PREFIX))
    seen = inspect_prompt(
        directory,
        look.prompt,
        settings,
        as_chat=look.as_chat,
        max_new_tokens=look.max_tokens,
        tell=view.stage,
    )
    view.begin(0)  # which ticks the last stage off
    return seen


def _print(heat: heat_map.HeatMap) -> None:
    # Not at the top: JSON needs no Rich.
    from rich.console import Console

    from llama_index.packs.mixture_of_agents.app.heat_screen import heat_picture

    console = Console(highlight=False)
    console.print(
        heat_picture(
            heat,
            console.width,
            is_unicode=console.encoding.startswith("utf"),
            has_colour=console.color_system is not None and not console.no_color,
        )
    )
