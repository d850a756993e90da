"""Which view a run gets."""

from __future__ import annotations

import pytest

from llama_index.packs.mixture_of_agents.app.choosing import moves_cursor, view_kind


@pytest.mark.parametrize(
    ("out", "err", "as_json", "progress", "kind"),
    [
        (True, True, False, None, "screen"),
        (True, False, False, None, "screen"),
        (True, True, True, None, "lines"),
        (True, True, False, False, "silence"),
        (False, True, False, None, "lines"),
        (False, False, False, None, "silence"),
        (False, False, False, True, "lines"),
        (False, False, True, None, "silence"),
        (False, True, True, False, "silence"),
    ],
)
def test_view_kind(out: bool, err: bool, as_json: bool, progress: bool | None, kind: str) -> None:
    chosen = view_kind(is_terminal=out, is_terminal_err=err, as_json=as_json, progress=progress)
    assert chosen == kind


@pytest.mark.parametrize(("term", "moves"), [("xterm-256color", True), ("dumb", False), ("", True)])
def test_moves_cursor(term: str, moves: bool) -> None:
    assert moves_cursor({"TERM": term}) is moves


def test_without_a_terminal_type_redrawing_is_tried() -> None:
    assert moves_cursor({})
