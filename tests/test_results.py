"""Results: they print as the answer, add up honestly, serialise, and show themselves safely."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage
from pydantic import ValidationError

from llama_index.packs.mixture_of_agents import Missing, MixtureResponse, Proposal, Usage
from llama_index.packs.mixture_of_agents.results import Routing

COUNT = st.none() | st.integers(0, 10**9)
COST = st.none() | st.floats(0, 1e6)
USAGE = st.builds(Usage, prompt_tokens=COUNT, completion_tokens=COUNT, cost_usd=COST)
PROPOSAL = st.builds(
    Proposal,
    proposer=st.text(),
    layer=st.integers(1, 9),
    text=st.text(),
    usage=USAGE,
    latency_seconds=st.floats(0, 1e6),
)
MISSING = st.builds(
    Missing,
    proposer=st.text(),
    layer=st.integers(1, 9),
    reason=st.text(),
    status=st.none() | st.integers(400, 599),
)
RESPONSE = st.builds(
    MixtureResponse,
    text=st.text(),
    proposals=st.lists(PROPOSAL, max_size=4),
    missing=st.lists(MISSING, max_size=4),
    usage=USAGE,
    latency_seconds=st.floats(0, 1e6),
    run_id=st.text(),
    synthesizer=st.text(),
    message=st.builds(ChatMessage, role=st.just("assistant"), content=st.text()),
)


class Tags(HTMLParser):
    """The tags and the text of a page, as a browser would take them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "td":
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


@given(parts=st.lists(USAGE, max_size=6))
def test_a_sum_is_known_only_when_every_part_is(parts: list[Usage]) -> None:
    total = Usage.total(parts)
    for name in ("prompt_tokens", "completion_tokens", "cost_usd"):
        values = [getattr(part, name) for part in parts]
        known = bool(values) and None not in values
        assert getattr(total, name) == (sum(values) if known else None)


@given(response=RESPONSE)
def test_a_response_prints_as_its_answer_and_nothing_else(response: MixtureResponse) -> None:
    assert str(response) == f"{response}" == response.text


@given(response=RESPONSE)
def test_a_response_serialises_and_comes_back(response: MixtureResponse) -> None:
    assert MixtureResponse.model_validate_json(response.model_dump_json()) == response
    told = json.loads(json.dumps(response.to_dict()))
    assert told["text"] == response.text
    assert told["degraded"] == response.degraded == bool(response.missing)
    assert [Proposal(**proposal) for proposal in told["proposals"]] == response.proposals
    assert [Missing(**missing) for missing in told["missing"]] == response.missing


def test_results_cannot_be_changed() -> None:
    usage = Usage(prompt_tokens=1)
    proposal = Proposal(proposer="a", layer=1, text="x")
    for record, name in ((usage, "prompt_tokens"), (proposal, "text"), (MixtureResponse(text="x"), "text")):
        with pytest.raises(ValidationError):
            setattr(record, name, 2)


def test_missing_says_who_where_why_and_with_which_status() -> None:
    assert str(Missing(proposer="a", layer=2, reason="down", status=503)) == "a, layer 2: down (HTTP 503)"
    assert str(Missing(proposer="a", layer=2, reason="slow")) == "a, layer 2: slow"


ALLOWED = {"table", "thead", "tbody", "tr", "th", "td"}


@given(response=RESPONSE)
def test_no_text_adds_a_tag_to_the_notebooks_table(response: MixtureResponse) -> None:
    page = Tags()
    page.feed(response._repr_html_())
    assert page.tags <= ALLOWED


def test_the_notebooks_table_shows_everyone_with_markup_as_text() -> None:
    evil = "<script>alert('x')</script> & <b>bold</b>"
    response = MixtureResponse(
        text=evil,
        proposals=[
            Proposal(
                proposer=evil, layer=1, text=evil, usage=Usage(completion_tokens=7), latency_seconds=1.26
            )
        ],
        missing=[Missing(proposer="<img onerror=x>", layer=1, reason=evil)],
        synthesizer=evil,
    )
    page = Tags()
    page.feed(response._repr_html_())
    assert "<script" not in response._repr_html_()
    assert page.cells[:5] == ["1", evil, evil, "1.3", "7"]
    assert page.cells[5:8] == ["1", "<img onerror=x>", f"missing: {evil}"]
    assert page.cells[10:13] == ["answer", evil, evil]


def test_a_notebook_shows_whom_a_gate_asked() -> None:
    routed = [
        Routing(layer=1, asked=["tiny", "small"], reason="nobody has answered yet"),
        Routing(layer=1, reason="5 is <right>"),
    ]
    shown = MixtureResponse(text="5", routed=routed)._repr_html_()
    assert "asks tiny, small: nobody has answered yet" in shown
    assert "asks nobody more: 5 is &lt;right&gt;" in shown
