"""The table of docs/filters.md: what each filter is in process, and as a pattern, or why not.

``python -m tests.test_filters_table`` prints the rows that the page has to show.
"""

import json

import pytest

import dynaflow
from dynaflow import App, Record, Router
from dynaflow._paths import RESERVED
from dynaflow.pushdown import Pushed
from tests.support.documents import Document

PAGE = "docs/filters.md"


def is_weekend(record: Record) -> bool:
    raise NotImplementedError


NAMES = {name: getattr(dynaflow, name) for name in ("F", "added", "changed", "crossed", "removed")}
NAMES["is_weekend"] = is_weekend

# Written as it is in the page → true in process if. Each is a filter of an on_modify route.
FILTERS = {
    'F.new.status == "paid"': "it equals",
    'F.new.status != "paid"': "it does not, or is missing, or of another type",
    "F.new.total == 100": "it is the number 100, however it is written",
    "F.new.total > 100": "it is a number, and greater",
    "F.new.total.between(10, 20)": "it is a number, 10 to 20",
    "~(F.new.total > 100)": "it is not: not greater, no number or missing",
    "F.new.total > F.old.total": "both are numbers, and it grew",
    "F.new.paid == True": "it is the boolean",
    "F.new.note == None": "it is NULL",
    'F.new.status.is_in(["paid", "shipped"])': "it equals one of them",
    '~F.new.status.is_in(["paid", "shipped"])': "it equals none of them",
    'F.new.sku.startswith("A-")': "it is a text that starts so",
    'F.new.sku.endswith("-X")': "it is a text that ends so",
    '~F.new.sku.startswith("A-")': "it does not, or is no text",
    'F.new.tags.contains("gift")': "it is in the text, the set or the list",
    'F.new.tags == {"gift"}': "it is the set of just that",
    "F.new.note.exists()": "there is a value",
    "~F.new.note.exists()": "there is none",
    'F.new.note.is_type("N")': "it is a number",
    'changed("status", to="paid")': "it is paid and was not",
    'changed("status", was="open", to="paid")': "it was open and is paid",
    'changed("status")': "it is another value than before",
    'added("note")': "it is there and was not",
    'removed("note")': "it was there and is not",
    'crossed("total", above=100)': "it is above and was not",
    'F.new.address.city == "Oslo"': "the map's value equals",
    'F.new.address.city != "Oslo"': "it does not, or is missing",
    'F.new["a.b"] == "x"': "the attribute named `a.b` equals",
    'F.new.lines[0].sku == "A"': "the first element's value equals",
    '(F.new.status == "paid") | (F.new.total == 1)': "one of both is true",
    "is_weekend": "the function says so",
}


def as_pattern(expression: str) -> str:
    """Return how the page tells the pattern of a filter, or why there is none."""
    router = Router()
    condition = eval(expression, dict(NAMES))  # noqa: S307 - the expressions of this file
    router.add_route(["MODIFY"], lambda: None, condition, name="it")
    pushdown = App(router).pushdown(view_type="NEW_AND_OLD_IMAGES")
    (route,) = pushdown.routes
    reasons = "; ".join(route.reasons)
    if route.pushed is Pushed.NOT:
        return f"none: {reasons}"
    told = " or ".join(
        f"`{json.dumps(pattern['dynamodb'])[1:-1]}`" for pattern in pushdown.patterns
    )
    return told if route.pushed is Pushed.EXACTLY else f"{told}, wider: {reasons}"


def rows() -> list[list[str]]:
    """Return the rows of the table, as their cells are written."""
    return [
        [cell.replace("|", "\\|") for cell in (f"`{expression}`", meaning, as_pattern(expression))]
        for expression, meaning in FILTERS.items()
    ]


def test_the_table_says_what_becomes_of_each_filter() -> None:
    text = Document(PAGE).text
    missing = [row for row in rows() if f"| {' | '.join(row)} |\n" not in text]
    assert missing == []


@pytest.mark.parametrize("operator", sorted(RESERVED))
def test_every_operator_is_in_the_table(operator: str) -> None:
    assert any(f".{operator}(" in expression for expression in FILTERS)


if __name__ == "__main__":
    for row in rows():
        print(f"| {' | '.join(row)} |")  # noqa: T201 - for whoever mends the page
