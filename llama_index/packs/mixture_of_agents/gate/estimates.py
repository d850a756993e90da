"""What a call may take, told before it goes out: tokens by its bytes, money by what a meter says.

It knows the call, and nothing of who else is asked or of what is left.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from llama_index.core.base.llms.types import ChatMessage

from llama_index.packs.mixture_of_agents.facts import MixtureFacts, SeatFacts
from llama_index.packs.mixture_of_agents.gate.limits import Need
from llama_index.packs.mixture_of_agents.policies import Meter
from llama_index.packs.mixture_of_agents.proposers import Call
from llama_index.packs.mixture_of_agents.results import Usage

_logger = logging.getLogger(__name__)

BYTES_PER_TOKEN = 4
ANSWER_TOKENS = 1024
"""The longest answer, where neither the call nor the model says."""


class Estimates:
    """What the calls of one mixture may take.

    Args:
        mixture: Whom it asks.
        meter: Knows what calls cost; None for nobody.
    """

    def __init__(self, mixture: MixtureFacts, meter: Meter | None) -> None:
        self._meter = meter
        self._longest = _longest_answers(mixture)
        self.tries = 1 + mixture.max_retries

    def need(self, call: Call, with_money: bool) -> Need:
        """What a call may take.

        Args:
            call: The call, as it is about to go out.
            with_money: Whether anybody asks for its cost.
        """
        answer = call.sampling.max_tokens or self._longest.get(call.proposer, ANSWER_TOKENS)
        prompt = prompt_tokens(call.messages)
        said = self._said(call, Usage())
        # Bytes are few tokens in English and more in other scripts, so the larger of the two is believed.
        prompt = max(prompt, said.prompt_tokens or 0)
        usd = None
        if with_money:
            usd = self._said(call, Usage(prompt_tokens=prompt, completion_tokens=answer)).cost_usd
        return Need(calls=1, requests=self.tries, tokens=prompt + answer, usd=usd)

    def _said(self, call: Call, usage: Usage) -> Usage:
        """What the meter makes of it; one that fails costs no answer."""
        if self._meter is None:
            return usage
        try:
            return self._meter.measured(call, "", usage)
        except Exception:
            _logger.warning(
                "%s failed; a call is estimated without it", type(self._meter).__name__, exc_info=True
            )
            return usage


def prompt_tokens(messages: Sequence[ChatMessage]) -> int:
    """Tokens of a prompt: a quarter of its bytes, rounded up."""
    # A caller's text may hold half a surrogate pair, which the strict codec refuses.
    size = sum(len((message.content or "").encode("utf-8", "surrogatepass")) for message in messages)
    return -(-size // BYTES_PER_TOKEN)


def used_tokens(usage: Usage) -> int | None:
    """Tokens read and written; None where the model did not say."""
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    return usage.prompt_tokens + usage.completion_tokens


def _longest_answers(mixture: MixtureFacts) -> Mapping[str, int]:
    """The longest answer of everyone of whom it is known; the larger, where a name sits twice."""
    seats = [*(seat for layer in mixture.layers for seat in layer), mixture.aggregator]
    seats += [] if mixture.role_writer is None else [mixture.role_writer]
    longest: dict[str, int] = {}
    for seat in seats:
        longest[seat.name] = max(longest.get(seat.name, 0), _longest_answer(seat))
    return longest


def _longest_answer(seat: SeatFacts) -> int:
    known = seat.longest_answer
    return known if known is not None and known > 0 else ANSWER_TOKENS
