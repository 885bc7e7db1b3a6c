"""A day's summary as a table, for spreadsheets."""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

HEADER = ("section", "category", "name", "quantity", "amount", "notes")

FORMULA = re.compile(r"""(^|[;；,，"\t\r\n])([\s;；,，"]*)(?=[=+\-@|%＝＋－＠])""")
"""Where a spreadsheet could find the beginning of a formula: at the start of a cell, and behind whatever it may take for
the end of one, which depends on where it runs (https://owasp.org/www-community/attacks/CSV_Injection)."""


@dataclass(frozen=True)
class Csv:
    """A file for a spreadsheet."""

    file_name: str
    content: bytes


def summary_csv(summary: Any) -> Csv:
    """Write a summary, as REST has it, as CSV (RFC 4180) in UTF-8.

    It begins with a byte order mark: without it Excel takes the text for Windows-1252.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(HEADER)
    writer.writerows(_rows(summary))
    name = f"summary-{summary['cafe_id']}-{summary['date']}.csv"
    return Csv(name, codecs.BOM_UTF8 + text.getvalue().encode())


def _rows(summary: Any) -> Iterator[tuple[object, ...]]:
    for combo in summary["combos"]:
        yield "combo", "", _plain(combo["name"]), combo["quantity"], combo["amount"], ""
    for of in summary["dishes"]:
        for dish in of["dishes"]:
            yield "dish", of["category"], _plain(dish["name"]), dish["quantity"], "", ""
    for extra in summary["extras"]:
        yield "extra", "extra", _plain(extra["name"]), extra["quantity"], extra["amount"], ""
    for note in summary["notes"]:
        yield "note", "", _plain(note["user_name"]), "", "", _plain(note["notes"])
    yield "total", "", "orders", summary["orders_count"], summary["total_price"], ""


def _plain(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would take for a formula: names and notes come from people."""
    return FORMULA.sub(r"\1\2'", text)
