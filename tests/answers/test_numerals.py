"""Numerals: equal numbers become equal texts, however they are written."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index.packs.mixture_of_agents.answers.numerals import last_number, numbers, only_number


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1,000.00", ["1000"]),
        ("$12.50.", ["12.5"]),
        ("-$5 and $-5 and -5", ["-5", "-5", "-5"]),
        ("\N{MINUS SIGN}3", ["-3"]),
        ("\\$7", ["7"]),
        ("5-3=2", ["5", "3", "2"]),
        ("2023-24", ["2023", "24"]),
        ("(4)-1", ["4", "1"]),
        ("50%", ["50"]),
        ("3/4 and 6 / 8", ["0.75", "0.75"]),
        ("4/6", ["2/3"]),
        ("-1/3", ["-1/3"]),
        ("8/4", ["2"]),
        (r"\frac{3}{4} and \dfrac{1}{3}", ["0.75", "1/3"]),
        ("1/0", ["1"]),
        ("24 2/3 and -1 1/2", ["74/3", "-1.5"]),
        ("3 4/2 and 2023 3/4", ["3", "2", "2023", "0.75"]),
        ("1e3 1.5E-2", ["1000", "0.015"]),
        (".5", ["0.5"]),
        ("007", ["7"]),
        ("0.0 -0", ["0", "0"]),
        ("1,2,3", ["1", "2", "3"]),
        ("12,345,678", ["12345678"]),
        ("12 kg of CO2", ["12"]),
        ("12 cm^2 and 3 m^{2}", ["12", "3"]),
        ("v1.5 gpt4", []),
        ("__42__ and **43**", ["42", "43"]),
        ("5km", ["5"]),
        ("<<4000*3=12000>>12000", ["4000", "3", "12000", "12000"]),
        ("no number", []),
        ("", []),
    ],
)
def test_numbers_in_their_shortest_form(text: str, found: list[str]) -> None:
    assert list(numbers(text)) == found
    assert last_number(text) == (found[-1] if found else None)


@given(whole=st.integers(0, 10**30), places=st.integers(0, 6), negative=st.booleans())
def test_commas_and_closing_zeros_make_no_difference(whole: int, places: int, negative: bool) -> None:
    sign = "-" if negative and whole else ""
    plain = f"{sign}{whole}"
    written = f"{sign}{whole:,}" + (f".{'0' * places}" if places else "")
    assert only_number(written) == only_number(plain) == plain


@given(above=st.integers(0, 10**12), below=st.integers(1, 10**12))
def test_a_fraction_keeps_its_value_exactly(above: int, below: int) -> None:
    found = only_number(f"{above}/{below}")
    assert found is not None
    assert Fraction(found) == Fraction(above, below)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=0, max_value=10**20, places=5))
def test_a_decimal_keeps_its_value_exactly(value: Decimal) -> None:
    found = only_number(format(value, "f"))
    assert found is not None
    assert Decimal(found) == value
    assert only_number(found) == found


@pytest.mark.parametrize("text", ["42 apples", "x", "", "1 2", "answer: 3", "CO2"])
def test_a_text_with_more_in_it_is_no_number(text: str) -> None:
    assert only_number(text) is None
