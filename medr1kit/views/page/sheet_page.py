"""The worksheet as one HTML page: images inside, fields to fill in, a button that saves the CSV.

The page asks nothing of the network and sends nothing. What a reader types is also kept in the browser's own storage,
so that a closed tab loses nothing. The image of each row is a thumbnail of at most 224 pixels.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import pandas as pd

from medr1kit.data.phantoms import redraw
from medr1kit.progress import progress
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL import Image

VERDICTS = ("model wrong", "gold wrong", "question unclear", "image unclear", "right, form only")
"""Verdicts that the page suggests; readers may agree on others."""

_SIDE = 224
_STYLE = """
body{font:15px/1.4 sans-serif;margin:1em;color:#222}
header{position:sticky;top:0;background:#fff;padding:.5em 0;border-bottom:1px solid #999}
article{display:grid;grid-template-columns:232px 1fr 260px;gap:1em;border-bottom:1px solid #bbb;padding:1em 0}
article img{max-width:224px} .gold{font-weight:bold} .said{text-decoration:underline wavy} small{color:#555}
pre{white-space:pre-wrap;background:#f4f4f4;padding:.5em;margin:.5em 0} label{display:block;margin-bottom:.4em}
article input,textarea{width:100%;box-sizing:border-box;font:inherit}
@media print{header button{display:none}}
"""
# The saved file has the columns of the .csv sheet and the same guard against formulas.
_SCRIPT = r"""
const store = document.body.dataset.sheet, names = JSON.parse(document.body.dataset.columns);
const who = document.getElementById('reader'), rows = [...document.querySelectorAll('article')];
const fields = row => [...row.querySelectorAll('[name]')];
const guard = text => '"' + (/^'*[=+\-@\t\r\n]/.test(text) ? "'" + text : text).replaceAll('"', '""') + '"';
function values(row) {
  const cells = {...JSON.parse(row.dataset.row), reader: who.value};
  for (const field of fields(row)) cells[field.name] = field.value;
  return cells;
}
function table() {
  const lines = [names, ...rows.map(row => { const cells = values(row); return names.map(name => cells[name]); })];
  return '\ufeff' + lines.map(line => line.map(guard).join(',') + '\r\n').join('');
}
function keep() {
  const done = rows.filter(row => fields(row).some(field => field.value.trim())).length;
  document.getElementById('done').textContent = `${done} of ${rows.length}`;
  const kept = [who.value, ...rows.map(row => fields(row).map(field => field.value))];
  try { localStorage.setItem(store, JSON.stringify(kept)); } catch (error) { /* private window */ }
}
function restore() {
  try {
    const [name, ...kept] = JSON.parse(localStorage.getItem(store));
    who.value = name;
    kept.forEach((cells, i) => fields(rows[i]).forEach((field, k) => { field.value = cells[k]; }));
  } catch (error) { /* nothing was kept */ }
}
document.getElementById('save').onclick = () => {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([table()], {type: 'text/csv'}));
  link.download = 'worksheet-' + (who.value.replace(/\W+/g, '-') || 'reader') + '.csv';
  link.click();
};
document.addEventListener('input', keep);
restore(); keep();
"""


def images_of(rows: pd.DataFrame, data: Dataset | None) -> list[Image.Image | None]:
    """Return the image of each row; None where there is none to show.

    Args:
        rows: with ``id``, ``image_id`` and, if there is one, ``source``.
        data: as in :func:`medr1kit.views.page.worksheet.export_worksheet`.

    Raises:
        DataError: if ``data`` has no images, or none of the ids.
    """
    if data is None:
        return [_phantom(name) for name in progress(rows["image_id"], "drawing images", unit="image")]
    if "image" not in data.column_names:
        raise DataError("data= has no images; load it with images=, or leave data= out")
    place = {name: i for i, name in enumerate(data["id"])}
    places = [place.get(name) for name in rows["id"]]
    if all(i is None for i in places):
        raise DataError(f"no id of the errors is in data=; the first is {rows['id'].iloc[0]!r}")
    return [None if i is None else data[i]["image"] for i in progress(places, "reading images", unit="image")]


def _phantom(image_id: str) -> Image.Image | None:
    try:
        return redraw(image_id)
    except DataError:
        return None


def write_page(sheet: pd.DataFrame, images: Sequence[Image.Image | None], reader: Sequence[str]) -> str:
    """Return the page.

    Args:
        sheet: the sheet, all cells texts.
        images: one a row, or None.
        reader: the columns a reader fills: who, then what is asked in each row.
    """
    fixed = [column for column in sheet if column not in reader]
    shown = progress(images, "writing the page", unit="row")
    articles = [_article(row, row[fixed].to_json(), image) for (_, row), image in zip(sheet.iterrows(), shown)]
    mark = "medr1kit-" + hashlib.sha256("".join(sheet["key"]).encode()).hexdigest()[:12]
    columns = html.escape(json.dumps(list(sheet)))
    suggestions = "".join(f"<option>{verdict}</option>" for verdict in VERDICTS)
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>medr1kit worksheet</title>"
        f'<style>{_STYLE}</style></head><body data-sheet="{mark}" data-columns="{columns}">'
        f"<header><label>Reader <input id='reader' autocomplete='off'></label> <span id='done'></span> annotated "
        f"<button id='save'>Save as CSV</button></header><datalist id='verdicts'>{suggestions}</datalist>"
        f"{''.join(articles)}<script>{_SCRIPT}</script></body></html>\n"
    )


def _article(row: pd.Series, fixed: str, image: Image.Image | None) -> str:
    cell = {column: html.escape(text) for column, text in row.items()}
    labels = [cell[c] for c in ("modality", "task", "method", "format") if cell.get(c)]
    labels += [f"seed {cell['seed']}"] if cell.get("seed") else []
    options = re.split(r" \| (?=[A-Z]\) )", row["options"])
    items = "".join(f"<li class='{_role(option, row)}'>{html.escape(option)}</li>" for option in options)
    reason = f": {cell['reason']}" if cell["reason"] else ""
    return (
        f'<article data-row="{html.escape(fixed)}"><div>{_picture(image, cell["id"])}</div>'
        f"<div><small>{cell['id']} · {' · '.join(labels)}</small><p>{cell['question']}</p>"
        f"<ul>{items}</ul><p>gold: {cell['gold']}; predicted: {cell['predicted']}</p><pre>{cell['completion']}</pre>"
        f"<p>{cell['error']}{reason}</p></div>"
        "<div><label>Verdict <input name='verdict' list='verdicts' autocomplete='off'></label>"
        "<label>Comment <textarea name='comment' rows='4'></textarea></label></div></article>"
    )


def _role(option: str, row: pd.Series) -> str:
    return " ".join(role for role, column in (("gold", "gold"), ("said", "predicted")) if option == row[column])


def _picture(image: Image.Image | None, name: str) -> str:
    if image is None:
        return "<small>image not given</small>"
    small, file = image.convert("RGB"), BytesIO()
    small.thumbnail((_SIDE, _SIDE))
    small.save(file, "PNG", optimize=True)
    return f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'
