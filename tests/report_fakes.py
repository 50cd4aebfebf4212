"""What the tests of the report show: a small study cut from the recorded one, a run whose texts are hostile, and the
page as a browser reads it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
from widget_fakes import HOSTILE, check_safe, predictions

from medr1kit.results.kept import recorded
from medr1kit.results.runs import RunWriter
from medr1kit.results.tables import PREDICTIONS, ROLLOUTS

QUESTIONS = 36
TEXTS = tuple(text for name, text in HOSTILE.items() if name != "half")  # no file of ours takes half of a pair


@cache
def small_study() -> pd.DataFrame:
    """GRPO on CT and on OCT in two formats, with one seed, and the base: 36 questions about three modalities."""
    preds = recorded("clinic/answers", asked="A", part=["", "machine"])[list(PREDICTIONS)]
    preds = preds[preds["seed"].fillna(10).eq(10)]
    who = preds["method"].eq("base") | (preds["method"].eq("grpo") & preds["train_modality"].isin(["CT", "OCT"]))
    rows = preds[
        who & preds["format"].isin(["think-before", "no-think"]) & preds["modality"].isin(["CT", "OCT", "MRI"])
    ]
    ids = rows.drop_duplicates("id").groupby("modality")["id"].head(QUESTIONS // 3)
    return rows[rows["id"].isin(ids)].reset_index(drop=True)


def hostile_answers(**columns) -> pd.DataFrame:
    """Two methods whose completions, question and options try to be more than text."""
    before = predictions(list(TEXTS), **columns)
    after = predictions(list(TEXTS[::-1]), method="=1+1", **columns)
    for frame in (before, after):
        frame["question"] = HOSTILE["script"]
        frame["options"] = [["<b>liver</b>", "brain</script>", "=lung"] for _ in TEXTS]
    return pd.concat([before, after], ignore_index=True)


def write_run(folder: Path, steps: int = 6, texts: tuple[str, ...] = TEXTS) -> Path:
    """A run of GRPO: at each step but the last a group of one completion a text."""
    with RunWriter(folder, {"method": "grpo", "model": "tiny", "arguments": {"output_dir": str(folder)}}) as writer:
        for step in range(1, steps + 1):
            writer.metrics_row(
                {"step": step, "reward": step / 10, "completions/mean_length": 20 + step, "entropy": 1.0}
            )
            if step == steps:
                break
            common = dict.fromkeys(ROLLOUTS) | {
                "step": step,
                "id": f"CT-train-0-{step}",
                "question": "What <i>is</i> it?",
            }
            common |= {"options": ["liver", "brain"], "answer": "B", "modality": "CT", "truncated": False, "used": True}
            writer.rollout_rows(
                common
                | {"rollout": i, "text": text, "accuracy_reward": i % 2, "advantage": float(i % 2), "n_tokens": 9}
                for i, text in enumerate(texts)
            )
    return folder


class Page(HTMLParser):
    """A report as a browser reads it: elements, and what is embedded."""

    def __init__(self, path):
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.scripts, self.elements, self.inside = {}, [], None
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside = dict(attrs).get("id", "script") if tag == "script" else None

    def handle_data(self, data):
        if self.inside:
            self.scripts[self.inside] = self.scripts.get(self.inside, "") + data

    def handle_endtag(self, tag):
        self.inside = None

    def held(self, name):
        return json.loads(self.scripts[f"mk-{name}"])

    def section(self, name):
        return re.search(rf'<section id="{name}">(.*?)</section>', self.text, re.DOTALL).group(1)


def unpack(packed):
    return json.loads(gzip.decompress(base64.b64decode(packed)))


def check_page(page):
    """One script runs, by its hash; nothing is fetched, nothing has a handler or an address."""
    policy = next(attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv"))
    digest = base64.b64encode(hashlib.sha256(page.scripts["script"].encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ") and f"script-src 'sha256-{digest}';" in policy
    for tag, attrs in page.elements:
        assert tag not in ("iframe", "object", "embed", "base", "form")
        assert not [name for name in attrs if name.startswith("on")]
        assert tag == "link" or attrs.get("href", "#").startswith("#")
        assert attrs.get("src", "data:image/").startswith("data:image/")
        assert tag != "script" or attrs.get("type", "application/json") == "application/json"
    [icon] = [attrs for tag, attrs in page.elements if tag == "link"]
    assert icon["rel"] == "icon" and icon["href"].startswith("data:image/svg+xml,%3Csvg")
    assert not re.search(r"https?://(?!www\.w3\.org)", page.scripts["script"])
    for image in page.held("images"):
        check_safe(image)
