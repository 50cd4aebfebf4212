"""Whom this repository cites: one list, links that agree with it, and a file for whoever cites us."""

import re
import tomllib
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from scripts.references import LIST, PAGE, link, references, write

ROOT = Path(__file__).parent.parent
ROWS = references()
PLACES = [ROOT / "README.md"] + [
    path
    for folder in ("medr1kit", "docs", "notebooks", "data_cards")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".md", ".ipynb", ".csv") and path != LIST
]
_ARXIV = re.compile(r"arxiv(?:\.org/(?:abs|pdf|html)/|[\s:]+(?:preprint\s+)?)(\d{4}\.\d{4,5})", re.IGNORECASE)
_DOI = re.compile(r"(?:doi\.org/|doi:\s*)(10\.\d{4,}/[^\s)\"'`|,\\]+)", re.IGNORECASE)
_PRINTED = re.compile(r"\((1[89]\d\d|20[0-2]\d)\)")  # the year of "Psychometrika 12 (1947) 153"


def names(row):
    return row["name"]


def family(row):
    return row["first_author"].split()[-1]


def cited(path):
    """The identifiers that a file names, as the list writes them."""
    text = path.read_text(encoding="utf-8")
    found = {f"arXiv:{number}" for number in _ARXIV.findall(text)}
    return found | {f"doi:{unquote(name).rstrip('.')}" for name in _DOI.findall(text)}


def test_every_number_of_arxiv_and_every_doi_is_in_the_list():
    known = {row["identifier"] for row in ROWS}
    missing = {(str(path.relative_to(ROOT)), name) for path in PLACES for name in cited(path) - known}
    assert missing == set()
    assert sum(bool(cited(path)) for path in PLACES) > 15


def test_numbers_are_found_however_they_are_written(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "DAPO (arXiv\n    2503.14476), [a](https://arxiv.org/abs/2411.00640), arXiv:1706.04599, "
        "[b](https://doi.org/10.1000/a%3Cb%3Ec) and doi:10.1007/BF02295996. No number: 10.5 of 2024.12"
    )
    numbers = {"arXiv:2503.14476", "arXiv:2411.00640", "arXiv:1706.04599"}
    assert cited(page) == numbers | {"doi:10.1000/a<b>c", "doi:10.1007/BF02295996"}


def test_every_printed_source_of_a_docstring_is_in_the_list():
    """Sources are written "Author, Journal volume (year) page": an author of that year stands before the year."""
    found, missing = 0, []
    for path in (path for path in PLACES if path.suffix == ".py"):
        text, place = path.read_text(encoding="utf-8"), str(path.relative_to(ROOT))
        for year in _PRINTED.finditer(text):
            before = text[max(0, year.start() - 120) : year.start()]
            known = [row for row in ROWS if row["year"] == year[1] and place in row["used"].split("; ")]
            found += 1
            if not any(family(row) in before for row in known):
                missing.append((place, before[-60:] + year[0]))
    assert missing == [] and found >= 20


@pytest.mark.parametrize("row", ROWS, ids=names)
def test_what_the_list_says_is_used_somewhere_is_named_there(row):
    """A page links it; tables have its number or its name; code these or its first author."""
    for used in row["used"].split("; "):
        text = (ROOT / used).read_text(encoding="utf-8")
        if used.endswith(".md"):
            assert not row["identifier"] or f"]({link(row['identifier'])})" in text, used
        else:
            author = used.endswith(".py") and re.search(rf"\b{family(row)}\b", text)
            number = row["identifier"].partition(":")[2] or row["name"]
            assert author or number in text or row["name"].lower() in text.lower(), used


def test_the_list_is_complete_in_itself():
    said = [row["identifier"] for row in ROWS if row["identifier"]]
    assert len(set(said)) == len(said) and len({row["name"] for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert all(row[column] for column in row if column not in ("where", "identifier")), row
        assert 1900 < int(row["year"]) <= 2026
        if row["identifier"].startswith("arXiv:"):  # a number of arXiv begins with the year and month of its version 1
            assert row["identifier"][6:8] == row["year"][2:], row["name"]


def test_the_page_holds_the_list():
    page = PAGE.read_text(encoding="utf-8")
    assert write(page) == page and all(row["title"] in page for row in ROWS)


def test_whoever_cites_us_finds_version_licence_and_med_r1():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert (citation["title"], citation["version"]) == (project["name"], project["version"])
    assert citation["license"] == project["license"] and citation["message"] and citation["authors"]
    (paper,) = citation["references"]
    (row,) = [row for row in ROWS if row["name"] == "Med-R1"]
    assert paper["title"] == row["title"] and paper["url"] == link(row["identifier"])
    first = paper["authors"][0]
    assert f"{first['given-names']} {first['family-names']}" == row["first_author"]
