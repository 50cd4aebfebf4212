"""How a heat map and one of its cells look: colours after the sign, and in words whether it may be chance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pandas as pd

from medr1kit.results.kept import published
from medr1kit.results.maps import Map
from medr1kit.results.numbers import number, percent, points
from medr1kit.views.html import attribute, escape, side_by_side, table
from medr1kit.views.look import EMPTY, LIMIT, colour_of, in_order, ink_on
from medr1kit.vqa import MODALITIES, TASKS

_SURE = 0.05
_SHORT = dict(zip((*MODALITIES[3:], *TASKS), ("US", "Der", "FP", "OCT", "Micro", "AI", "DD", "LG", "MR", "OBA")))
_FRAME = "#1f2328"


def axes_of(table: pd.DataFrame, by: str) -> tuple[list[str], list[str]]:
    """Return the names of a map's rows and columns, known ones in their order, others behind."""
    return in_order(by, table[f"train_{by}"]), in_order(by, table[by])


def cell_text(row: pd.Series | dict, value: str) -> str:
    """Return what stands in a cell: points with their sign, or an accuracy in percent; "?" where it may be chance.

    >>> cell_text({"difference": -0.031, "p_corrected": 0.4}, "difference"), cell_text({"accuracy": 0.5}, "accuracy")
    ('−3.1?', '50')
    """
    if pd.isna(row[value]):
        return "–"
    if value == "accuracy":
        return f"{100 * row[value]:.0f}"
    doubt = "?" if row["p_corrected"] > _SURE else ""
    points = round(100 * row[value], 1)
    return f"{points:{'+' if points else ''}.1f}{doubt}".replace("-0.0", "0.0").replace("-", "−")


def limit_of(table: pd.DataFrame) -> float:
    """Return the points at which a map's colours saturate: twice as many as usual where it holds larger ones.

    >>> limit_of(pd.DataFrame({"difference": [0.1, -0.3]})), limit_of(pd.DataFrame({"difference": [0.1, 0.4]}))
    (30.0, 60.0)
    """
    return 2 * LIMIT if 100 * table["difference"].abs().max() > LIMIT else LIMIT


def colours_of(row: pd.Series | dict | None, value: str, limit: float = LIMIT) -> tuple[str, str]:
    """Return the colour of a cell, that of plot_transfer, and of the text on it, which says the same without them."""
    if row is None or pd.isna(row[value]):
        return EMPTY, _FRAME
    share = row[value] if value == "accuracy" else 0.5 + 50 * row[value] / limit
    colour = colour_of(share, value)
    return "#{:02x}{:02x}{:02x}".format(*(round(255 * part) for part in colour)), ink_on(colour)


def cells_of(table: pd.DataFrame, by: str, value: str) -> dict[tuple[str, str], tuple[str, str, str]]:
    """Return the cells of a map, row by row: what was trained on and tested -> text, colour, colour of the text."""
    found = {(row[f"train_{by}"], row[by]): row for row in table.to_dict("records")}
    rows, limit = {place: found.get(place, {value: None}) for place in product(*axes_of(table, by))}, limit_of(table)
    return {place: (cell_text(row, value), *colours_of(row, value, limit)) for place, row in rows.items()}


def short(name: str) -> str:
    """Return the short name of a modality or task, as in Med-R1's tables; others as they are."""
    return _SHORT.get(name, name)


def map_html(table: pd.DataFrame, by: str, value: str, chosen: tuple[str, str] | None = None, hook: str = "map") -> str:
    """Return a map as an HTML table: the diagonal framed, the chosen cell with a double frame and brackets."""
    rows, columns = axes_of(table, by)
    head = "".join(f'<th scope="col" title="{attribute(name)}">{escape(short(name))}</th>' for name in columns)
    lines = {train: [f'<tr><th scope="row">{escape(train)}</th>'] for train in rows}
    for (train, test), (text, back, ink) in cells_of(table, by, value).items():
        frame = f"border:2px solid {_FRAME};" if train == test else "border:1px solid #8888;"
        if (train, test) == chosen:
            frame, text = f"border:4px double {_FRAME};", f"[{text}]"
        style = f"background:{back};color:{ink};{frame}text-align:center;white-space:nowrap;padding:.25em .35em"
        lines[train].append(f'<td style="{style}" title="{attribute(f"{train} → {test}")}">{escape(text)}</td>')
    body = "".join("".join([*cells, "</tr>"]) for cells in lines.values())
    return (
        '<div class="mk-scroll" style="overflow-wrap:normal;font-size:.88em">'
        f'<table class="mk-table" data-mk="{attribute(hook)}">'
        f"<thead><tr><th>trained ↓ tested →</th>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def published_html(drawn: Map, chosen: tuple[str, str] | None = None) -> list[str]:
    """Return Med-R1's own map with one of its cells in words, where it shows the same difference as a map drawn here.

    Args:
        drawn: the map beside which it stands.
        chosen: what was trained on and what was tested; None for the map alone.

    Returns:
        A piece of HTML that says what is to be remarked of the map; none where nothing of the kind was published.
    """
    if drawn.formats != ("no-think", "think-before"):
        return []
    theirs = published(f"med-r1-no-think-minus-think-{drawn.by}")
    said = f"published: {theirs['quantity'].iloc[0]}, in points; no test and no interval was published"
    text = cells_of(theirs, drawn.by, "difference").get(chosen, ("",))[0]
    cell = f"<p>{escape(chosen[0])} → {escape(chosen[1])}: {text}</p>" if text else ""
    source = f"<p><small>{escape(theirs['source'].iloc[0])}</small></p>"
    return [f"<h4>{escape(said)}</h4>{map_html(theirs, drawn.by, 'difference', hook='published-map')}{cell}{source}"]


def cell_html(
    train: str, test: str, numbers: dict | None, confusion: Sequence[dict], formats: tuple[str, ...], seed: object
) -> str:
    """Return a cell's numbers, and what was taken for what.

    Args:
        train, test: the cell.
        numbers: from :func:`medr1kit.results.maps.cell_numbers`.
        confusion: some rows of :func:`medr1kit.results.errors.letters.confusion_table`, as dicts.
        formats: the two formats that are compared; one where it is training and base.
        seed: the one whose confusions these are; said where the numbers are of several.
    """
    head = f"<h4>trained on {escape(train)}, tested on {escape(test)}</h4>"
    if numbers is None:
        return f"{head}<p>No model was trained and tested so.</p>"
    now, was = formats if len(formats) == 2 else ("trained", "base")
    gain, seeds, whose = numbers["difference"], "", now
    if several := numbers["seeds"] > 1:
        seeds, whose = f", {numbers['seeds']} seeds", f"{now}, seed {number(seed)} only"
    lines = {
        "questions": f"{numbers['n']:,}{seeds}",
        f"accuracy, {now}": percent(numbers["accuracy"], numbers.get("accuracy_low"), numbers.get("accuracy_high")),
        f"accuracy, {was}": percent(numbers["before"]),
        "difference": _difference(gain, numbers["low"], numbers["high"]),
    }
    if several:
        lines["… for other seeds, too"] = _difference(gain, numbers["low_seeds"], numbers["high_seeds"])
    lines["p"] = number(numbers["p"])
    lines["corrected for the map"] = _difference(gain, numbers["low_corrected"], numbers["high_corrected"])
    doubt = " (may be chance)" if numbers["p_corrected"] > _SURE else ""
    lines["p, corrected for the map"] = f"{number(numbers['p_corrected'])}{doubt}"
    told = table([map(escape, line) for line in lines.items()], ["", "value [95 %]"], "numbers")
    return head + side_by_side([told, _confusion_html(confusion, whose)])


def _confusion_html(confusion: Sequence[dict], whose: str) -> str:
    if not confusion:
        return f"<p>No option was taken for another one: {escape(whose)}.</p>"
    several, lines = len({row["modality"] for row in confusion}) > 1, []
    for row in confusion:
        shares = percent(row["share"], row["low"], row["high"]), percent(row["chance"])
        said = [escape(row[name], 200) for name in ("gold_text", "predicted_text")]
        said += [
            f"{row['taken']} of {row['offered']}",
            *(f'<span class="mk-number">{share}</span>' for share in shares),
        ]
        lines.append([*said, escape(row["modality"])] if several else said)
    columns = ["gold", "taken for", "answers", "share [95 %]", "a guess", *(["modality"] if several else [])]
    return f"<p><small>taken for another option, {escape(whose)}</small></p>{table(lines, columns, 'confusion')}"


def _difference(*given: float) -> str:
    return points(*given).replace("-", "−")
