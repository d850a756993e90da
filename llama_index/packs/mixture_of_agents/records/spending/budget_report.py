"""What a budget did to a run, as data: what was spent, what was left out and why. It decides nothing."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

_FROZEN = ConfigDict(frozen=True)


class Degradation(BaseModel):
    """Something left out for the budget's sake.

    Attributes:
        measure: "skip_refine", "drop_dearest", "short_synthesis"; "no_roles", "no_condensing" or
            "no_answer" where such a call did not fit.
        layer: Where; 1 for the first round.
        who: Who was not asked, or had to be short.
        reason: Why, with the figures.
    """

    model_config = _FROZEN

    measure: str
    layer: int
    who: list[str] = Field(default_factory=list)
    reason: str = ""


class BudgetReport(BaseModel):
    """A run under a budget.

    Attributes:
        run_id: The run.
        limit_usd: Most it was to cost; None for no limit. So for tokens and seconds.
        limit_tokens: Most it was to read and write.
        limit_seconds: Longest it was to take.
        spent_usd: What it cost, what is assumed among it; None where USD were not limited. So for tokens.
        spent_tokens: What it read and wrote.
        assumed_usd: Of that, what calls that gave no answer may have been charged.
        assumed_tokens: Of that, what they may have used.
        seconds: How long it took.
        retries: Attempts that failed and were made again, which are taken as not charged.
        over_bound: Calls that cost more than they should have been able to, by name.
        degraded: What was left out.
    """

    model_config = _FROZEN

    run_id: str
    limit_usd: float | None = None
    limit_tokens: int | None = None
    limit_seconds: float | None = None
    spent_usd: float | None = None
    spent_tokens: int | None = None
    assumed_usd: float | None = None
    assumed_tokens: int | None = None
    seconds: float = 0.0
    retries: int = 0
    over_bound: list[str] = Field(default_factory=list)
    degraded: list[Degradation] = Field(default_factory=list)
