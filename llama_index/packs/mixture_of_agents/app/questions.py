"""What is asked: words of the command line, standard input, files. It knows no mixture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from llama_index.packs.mixture_of_agents.errors import ConfigurationError

_FROM_INPUT = "-"
_NOTHING = (
    "No question. Write it behind the command, in quotes, or pipe it in. A single word behind --models is "
    "taken for a model: write such a question before it, or behind --."
)


def question_from(
    argument: str | None, stdin: TextIO | None, user_prompt: str | None = None, files: Sequence[Path] = ()
) -> str:
    """The question, and behind it the files that are to be read for it.

    Args:
        argument: The question; "-" for standard input.
        stdin: Standard input; it is read where nothing else holds the question, unless it is a terminal.
        user_prompt: Another way to say the argument.
        files: Read behind the question; without one, the first of them is the question.

    Raises:
        ConfigurationError: There is no question, there are two, or something is not text.
    """
    said = _said(argument, user_prompt)
    texts = [(path, _text_of(path)) for path in files]
    if said is None and texts:
        said = texts.pop(0)[1]
    question = _read(said, stdin) if said in (None, _FROM_INPUT) else said
    return "\n\n".join([question or "", *(f"--- {path.name} ---\n{text.rstrip()}" for path, text in texts)])


def _said(argument: str | None, user_prompt: str | None) -> str | None:
    if argument is not None and user_prompt is not None and argument != user_prompt:
        raise ConfigurationError(
            "There are two questions, one behind the command and one behind --user-prompt; give one of them."
        )
    return user_prompt if argument is None else argument


def _read(said: str | None, stdin: TextIO | None) -> str:
    if stdin is None or (said is None and stdin.isatty()):
        raise ConfigurationError(_NOTHING)
    try:
        read = stdin.read()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"Standard input is not text ({error}); pipe text in.") from error
    if not read.strip():
        raise ConfigurationError(_NOTHING)
    return read


def _text_of(path: Path) -> str:
    try:
        return path.expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{path} cannot be read ({error}); name a text file in UTF-8. A question goes before --file, or "
            "behind --user-prompt."
        ) from error
