"""Errors: one tree, each also the builtin a caller would expect, each telling what lies underneath."""

from __future__ import annotations

import inspect
import pickle

import pytest

from llama_index.packs.mixture_of_agents import MixtureResponse, errors
from llama_index.packs.mixture_of_agents.errors import (
    BrokenStreamError,
    CheckpointError,
    ConfigurationError,
    ContextOverflowError,
    CrewTimeoutError,
    DeadlineExceededError,
    EngineClosedError,
    FragmentError,
    MissingExtraError,
    MixtureError,
    MixtureTimeoutError,
    OutOfMemoryError,
    PlanRejectedError,
    QueueFullError,
    RequestCancelledError,
    SparseMoEError,
    ToolError,
    TraceError,
)

TREE: dict[type[MixtureError], tuple[type[BaseException], ...]] = {
    ConfigurationError: (MixtureError, ValueError),
    MissingExtraError: (ConfigurationError, ImportError),
    CheckpointError: (ConfigurationError,),
    TraceError: (ConfigurationError,),
    MixtureTimeoutError: (MixtureError, TimeoutError),
    CrewTimeoutError: (MixtureError, TimeoutError),
    PlanRejectedError: (MixtureError,),
    BrokenStreamError: (MixtureError,),
    ToolError: (MixtureError, ValueError),
    SparseMoEError: (MixtureError,),
    ContextOverflowError: (SparseMoEError, ValueError),
    FragmentError: (SparseMoEError, ValueError),
    QueueFullError: (SparseMoEError,),
    OutOfMemoryError: (SparseMoEError, MemoryError),
    DeadlineExceededError: (SparseMoEError, TimeoutError),
    EngineClosedError: (SparseMoEError,),
    RequestCancelledError: (SparseMoEError,),
}


@pytest.mark.parametrize(("error", "parents"), TREE.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_each_error_is_caught_by_the_names_the_tree_gives(
    error: type[MixtureError], parents: tuple[type[BaseException], ...]
) -> None:
    assert all(issubclass(error, parent) for parent in parents)


def test_the_tree_in_the_docstring_names_every_error_there_is() -> None:
    members = inspect.getmembers(errors, inspect.isclass)
    defined = {name for name, member in members if issubclass(member, Exception)}
    assert defined == {error.__name__ for error in TREE} | {"MixtureError"}
    assert all(name in (errors.__doc__ or "") for name in defined)


def test_a_mixture_error_holds_its_causes() -> None:
    causes = [KeyError("a"), OSError("b")]
    assert MixtureError("both failed", causes=causes).causes == tuple(causes)
    assert MixtureError("none").causes == ()


def test_a_timeout_holds_what_was_there() -> None:
    partial = MixtureResponse(text="so far")
    error = MixtureTimeoutError("too slow", partial=partial)
    assert error.partial is partial
    assert str(error) == "too slow"


def test_a_missing_extra_names_the_command_that_installs_it() -> None:
    error = MissingExtraError("The local model", "sparse-moe")
    assert "pip install 'llama-index-packs-mixture-of-agents[sparse-moe]'" in str(error)
    assert str(error).startswith("The local model needs")
    assert error.extra == "sparse-moe"


@pytest.mark.parametrize(
    "error",
    [
        MissingExtraError("moa", "cli"),
        MixtureTimeoutError("late", partial=MixtureResponse(text="so far")),
        CrewTimeoutError("late", partial={"text": "so far"}),
        MixtureError("many", causes=[ValueError("one")]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_cross_a_process_boundary(error: MixtureError) -> None:
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert getattr(twin, "partial", None) == getattr(error, "partial", None)
