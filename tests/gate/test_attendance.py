"""Which runs a gate takes part in: all that go on are known, and the last of those that are over."""

from __future__ import annotations

import pytest

from llama_index.packs.mixture_of_agents.gate import attendance
from llama_index.packs.mixture_of_agents.gate.attendance import Attendance, Questions
from llama_index.packs.mixture_of_agents.results import MixtureResponse


def test_a_run_that_goes_on_is_never_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attendance, "MOST_ENDED", 2)
    questions = Questions()
    for number in range(9):
        questions.add(f"r{number}", f"{number}?")
    assert all(questions.of(f"r{number}") == f"{number}?" for number in range(9))
    assert all(questions.has(f"{number}?") for number in range(9))


def test_of_runs_that_are_over_the_last_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attendance, "MOST_ENDED", 2)
    questions = Questions()
    for number in range(5):
        questions.add(f"r{number}", f"{number}?")
    for number in (3, 1, 0):
        questions.end(f"r{number}")
    assert [questions.of(f"r{number}") for number in range(5)] == ["0?", "1?", "2?", None, "4?"]
    assert [questions.has(f"{number}?") for number in range(5)] == [True, True, True, False, True]


def test_a_question_that_several_ask_is_known_until_the_last_of_them_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attendance, "MOST_ENDED", 0)
    questions = Questions()
    for run in ("a", "b", "b"):  # who stands twice among the policies of a run is told twice
        questions.add(run, "Why?")
    questions.end("a")
    assert questions.has("Why?")
    questions.end("b")
    questions.end("b")
    assert not questions.has("Why?")


@pytest.mark.parametrize("outcome", [MixtureResponse(text="5", run_id="r"), RuntimeError("no answer")])
def test_a_run_is_over_however_it_ended(
    monkeypatch: pytest.MonkeyPatch, outcome: MixtureResponse | BaseException
) -> None:
    monkeypatch.setattr(attendance, "MOST_ENDED", 0)
    questions, told = Questions(), list[tuple[str, str]]()

    def tell(question: str, response: MixtureResponse) -> None:
        told.append((question, response.text))

    Attendance("r", "Why?", questions, tell).ended(outcome)
    assert told == ([("Why?", "5")] if isinstance(outcome, MixtureResponse) else [])
    assert not questions.has("Why?")
