"""Writes the tables of `docs/references.md` from `docs/references.csv`: ``python -m scripts.references``.

The CSV file is the one list: who, when, what, where it is used in this repository, and in what kind of text title,
author and year were found. What was not found is not in it.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[1]
LIST, PAGE = ROOT / "docs" / "references.csv", ROOT / "docs" / "references.md"
_HEAD = "| name | first author, year | title | used in | looked up in |\n" + "|" + " --- |" * 5
_TABLES = re.compile(r"(?<=<!-- tables -->\n).*(?=<!-- end of tables -->)", re.DOTALL)


def references() -> list[dict[str, str]]:
    """The rows of the list."""
    with open(LIST, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def link(identifier: str) -> str:
    """The address behind an identifier; of a book without one, nothing.

    >>> link("arXiv:2411.00640"), link("doi:10.1000/a<b>c"), link("")
    ('https://arxiv.org/abs/2411.00640', 'https://doi.org/10.1000/a%3Cb%3Ec', '')
    """
    kind, _, name = identifier.partition(":")
    where = {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}.get(kind)
    return where + quote(name, safe="/:;") if where else identifier


def tables(rows: list[dict[str, str]]) -> str:
    """One Markdown table a topic, in the order of the list."""
    lines = []
    for topic in dict.fromkeys(row["topic"] for row in rows):
        lines += [f"### {topic}", "", _HEAD]
        for row in rows:
            if row["topic"] == topic:
                title = f"[{row['title']}]({link(row['identifier'])})" if row["identifier"] else row["title"]
                title += f", {row['where']}" if row["where"] else ""
                used = ", ".join(f"[{Path(path).name}](../{path})" for path in row["used"].split("; "))
                who = f"{row['first_author']}, {row['year']}"
                lines.append(f"| {row['name']} | {who} | {title} | {used} | {row['confirmed']} |")
        lines.append("")
    return "\n".join(lines)


def write(text: str) -> str:
    """The page with its tables written anew."""
    return _TABLES.sub(lambda _: tables(references()), text)


if __name__ == "__main__":
    PAGE.write_text(write(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
