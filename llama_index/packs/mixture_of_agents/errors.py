"""The tree of errors this package raises.

    MixtureError                     anything this package raises on purpose
    |-- ConfigurationError           refused at the door, before any call (also a ValueError)
    |   |-- MissingExtraError        an optional dependency is not installed (also an ImportError)
    |   |-- CheckpointError          a checkpoint file does not fit this question or mixture
    |   `-- TraceError               a trace or a store of answers is unreadable, or lacks what is asked of it
    |-- MixtureTimeoutError          the run's own deadline passed (also a TimeoutError)
    |-- CrewTimeoutError             a crew's own deadline passed (also a TimeoutError)
    |-- PlanRejectedError            whoever was asked to confirm a plan said no
    |-- BrokenStreamError            a model's stream failed after part of its answer was out
    |-- ToolError                    a tool refused what an agent asked of it (also a ValueError)
    `-- SparseMoEError               the local sparse model could not do what was asked
        |-- ContextOverflowError     prompt and answer do not fit the model's context (also a ValueError)
        |-- FragmentError            an answer of a given shape was cut before its end (also a ValueError)
        |-- QueueFullError           too many requests are waiting already
        |-- OutOfMemoryError         it would not fit into memory (also a MemoryError)
        |-- DeadlineExceededError    its time was up before the answer was done (also a TimeoutError)
        |-- EngineClosedError        the engine was closed
        `-- RequestCancelledError    the request was cancelled while it was waiting or decoding

A message says what was found, what is valid, and what to do. This module knows nothing of what
raises them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llama_index.packs.mixture_of_agents.results import MixtureResponse


class MixtureError(Exception):
    """Base of every error raised on purpose by this package.

    Args:
        message: What was found, what is valid, what to do.
        causes: The errors underneath, where one message stands for several.
    """

    def __init__(self, message: str, *, causes: Sequence[BaseException] = ()) -> None:
        super().__init__(message)
        self.causes: tuple[BaseException, ...] = tuple(causes)


class ConfigurationError(MixtureError, ValueError):
    """Input that cannot work, refused before any model was called."""


class MissingExtraError(ConfigurationError, ImportError):
    """A part of the package needs a library that is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the '{extra}' extra, which is not installed. "
            f"Run: pip install 'llama-index-packs-mixture-of-agents[{extra}]'"
        )
        self.feature = feature
        self.extra = extra

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.feature, self.extra)


class CheckpointError(ConfigurationError):
    """A checkpoint file is unreadable, or belongs to another question or mixture."""


class TraceError(ConfigurationError):
    """A trace or a store of answers is unreadable, of another kind, or lacks what is asked of it."""


class MixtureTimeoutError(MixtureError, TimeoutError):
    """The run's `timeout` passed before there was an answer.

    Args:
        message: How long it ran, and what to change.
        partial: What was there when time ran out; its `text` may be empty.
    """

    def __init__(self, message: str, *, partial: MixtureResponse) -> None:
        super().__init__(message)
        self.partial = partial

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), partial=self.partial), (str(self),)


class CrewTimeoutError(MixtureError, TimeoutError):
    """A crew's `timeout` passed before there was an answer.

    Args:
        message: How long it ran, and what to change.
        partial: What was there when time ran out, a `CrewResponse`; its `text` is empty.
    """

    def __init__(self, message: str, *, partial: Any) -> None:
        super().__init__(message)
        self.partial = partial

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), partial=self.partial), (str(self),)


class PlanRejectedError(MixtureError):
    """Whoever was asked to confirm a plan said no; nothing of it was carried out."""


class BrokenStreamError(MixtureError):
    """A stream failed after part of the answer had been passed on, so it is not tried again."""


class ToolError(MixtureError, ValueError):
    """A tool refused what it was asked: a path outside its folder, SQL that writes, an unknown column.

    The message is for the model that called the tool, so it says what would have worked.
    """


class SparseMoEError(MixtureError):
    """The local sparse-MoE model could not do what was asked of it."""


class ContextOverflowError(SparseMoEError, ValueError):
    """Prompt and requested answer are longer than the model's context window."""


class FragmentError(SparseMoEError, ValueError):
    """An answer that was to have a shape was cut before its end."""


class QueueFullError(SparseMoEError):
    """The engine's queue is full; nothing was started."""


class OutOfMemoryError(SparseMoEError, MemoryError):
    """Weights or a request's cache need more memory than is free."""


class DeadlineExceededError(SparseMoEError, TimeoutError):
    """A request's own time was up before its answer was done."""


class EngineClosedError(SparseMoEError):
    """A request reached an engine that was closed."""


class RequestCancelledError(SparseMoEError):
    """A request was cancelled while it waited or decoded."""
