"""The summary of a day as a table for spreadsheets."""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

HEADER = ("section", "category", "name", "quantity", "amount", "notes")

FORMULA = re.compile(r"""(^|[;；,，"\t\r\n])([\s;；,，"]*)(?=[=+\-@|%＝＋－＠])""")
"""Where a spreadsheet may find the beginning of a formula: at the start of a cell, and after each character that it may take
for the end of a cell, depending on its locale (https://owasp.org/www-community/attacks/CSV_Injection). The library
defusedcsv looks only at the start of a cell."""


@dataclass(frozen=True)
class Csv:
    """A file for a spreadsheet."""

    file_name: str
    content: bytes


def summary_csv(summary: Any) -> Csv:
    """Write a summary, in REST's shape, as CSV (RFC 4180) in UTF-8.

    Without the byte order mark Excel would read the text as Windows-1252.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(HEADER)
    writer.writerows(_rows(summary))
    name = f"summary-{summary['cafe_id']}-{summary['date']}.csv"
    return Csv(name, codecs.BOM_UTF8 + text.getvalue().encode())


def _rows(summary: Any) -> Iterator[tuple[object, ...]]:
    for combo in summary["combos"]:
        yield "combo", "", _escape(combo["name"]), combo["quantity"], combo["amount"], ""
    for category in summary["dishes"]:
        for dish in category["dishes"]:
            yield "dish", category["category"], _escape(dish["name"]), dish["quantity"], "", ""
    for extra in summary["extras"]:
        yield "extra", "extra", _escape(extra["name"]), extra["quantity"], extra["amount"], ""
    for note in summary["notes"]:
        yield "note", "", _escape(note["user_name"]), "", "", _escape(note["notes"])
    yield "total", "", "orders", summary["orders_count"], summary["total_price"], ""


def _escape(text: str) -> str:
    """Put an apostrophe before a possible formula: users write the names and notes."""
    return FORMULA.sub(r"\1\2'", text)
