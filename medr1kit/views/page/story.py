"""The first view of a report: what a training did, told by one question, one curve and one sentence.

All of it comes from two tables, the answers before and after and the rollouts in between, and from the truth that a
phantom carries. Only what is one thing is told: the questions about what was trained, by one model in one format; where
that is a modality, without those that ask for it, whose answer is always the same.

Which question is shown, :mod:`medr1kit.results.opening` decides.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medr1kit.audits.floors import BlindFloor, blind_floor
from medr1kit.data.phantoms import redraw
from medr1kit.formats import ResponseFormat
from medr1kit.results.compare import Comparison, compare
from medr1kit.results.numbers import count, percent, points
from medr1kit.results.opening import opening_question
from medr1kit.results.rationales import check_rationale
from medr1kit.results.runs import Run
from medr1kit.results.tables import LABELS
from medr1kit.views.html import escape, side_by_side, visible
from medr1kit.views.page.page import section
from medr1kit.views.pictures import Pictures
from medr1kit.views.widgets.completion import completion_html
from medr1kit.views.widgets.curves import curve
from medr1kit.views.widgets.question import question_html
from medr1kit.vqa import LETTERS

CONSTANT = "Modality Recognition"
"""The task that has one answer all over a modality."""

_TRAINED = {"modality": "train_modality", "task": "train_task"}
_ANY = (None, "all")  # trained on no one of them

_LEGEND = (
    "✓ true of this image, ✗ false: the image is drawn, so what is true is known. Which question is shown follows a "
    "rule: {how}. By form alone: the same letter as before, only now written as asked. Where one modality was trained, "
    "questions that ask which it is do not count: their answer is always the same."
)
_CAPTION = (
    "Pale and dark: the answers that it sampled, at each step and smoothed. Dots: its most likely answers to the new "
    "questions. Guessed from the words: what the option texts alone give away, learned on those of the training."
)
_BLOCKS = " ▁▂▃▄▅▆▇█"
_SHADES = " ░▒▓█"
_WIDTH = 100  # of a terminal


@dataclass(frozen=True)
class Story:
    """What there is to tell.

    Attributes:
        name: what was done: "The model “tiny”, trained by GRPO on 2,000 OCT questions about drawn images in 250 steps".
        asked: what the questions of ``change`` and ``floor`` are: "new OCT questions".
        change: of their answers.
        floor: a lookup of option texts, learned from the questions that were trained on.
        steps, right: at each step of the training the share of right answers among those it sampled, 0..1.
        before, after: two answers to one question, as rows of predictions.
        format: in which both are.
        how: why this question.
    """

    name: str
    asked: str
    change: Comparison
    floor: BlindFloor
    steps: np.ndarray
    right: np.ndarray
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    format: ResponseFormat
    how: str

    @property
    def sentence(self) -> str:
        """The result with its interval, how much of it is form, and what can be had without eyes."""
        change, gain = self.change, points(self.change.difference, self.change.low, self.change.high)
        before, after = 100 * change.accuracy_before, percent(change.accuracy_after)
        return (
            f"{change.n:,} {self.asked}: {before:.1f} → {after} right, {gain} (95 % interval), of it "
            f"{points(change.repaired_format)} by form alone; guessed from the words, without eyes: "
            f"{percent(self.floor.accuracy)}."
        )


def story_of(preds: pd.DataFrame, run: Run) -> Story | None:
    """Return what a run's training did; None where it cannot be told.

    Args:
        preds: predictions on phantoms of the trained model and of its base.
        run: of GRPO: the questions it was trained on are those of its rollouts.
    """
    labels = dict.fromkeys(LABELS) | run.config.get("labels", {})
    mine = preds["source"].eq("phantoms") & preds["model"].eq(labels["model"]) & _asked(preds, labels)
    mine &= preds["format"].eq(run.config.get("format"))
    before = preds[mine & preds["method"].eq("base")].drop_duplicates("id").set_index("id", drop=False)
    after = preds[mine & _answered(preds, labels)].drop_duplicates("id").set_index("id", drop=False)
    shared = before.index.intersection(after.index)
    rollouts = run.rollouts if len(shared) else ()
    if not len(rollouts):
        return None
    seen, before, after = rollouts[_asked(rollouts, labels)], before.loc[shared], after.loc[shared]
    right = seen["predicted"].eq(seen["answer"]).groupby(seen["step"]).mean()
    place, how = opening_question(before, after)
    what = next((f"{labels[name]} " for name in _TRAINED.values() if labels[name] not in _ANY), "")
    new = "" if shared.isin(seen["id"]).any() else "new "
    questions = count(rollouts["id"].nunique(), f"{what}question") + " about drawn images"
    steps = count(rollouts["step"].nunique(), "step")
    return Story(
        name=f"The model “{labels['model']}”, trained by {labels['method'].upper()} on {questions} in {steps}",
        asked=f"{new}{what}questions",
        change=compare(before.reset_index(drop=True), after.reset_index(drop=True)),
        floor=blind_floor(seen.drop_duplicates("id")[["options", "answer"]], after[["options", "answer"]]),
        steps=right.index.to_numpy(),
        right=right.to_numpy(float),
        before=before.iloc[place].to_dict(),
        after=after.iloc[place].to_dict(),
        format=run.format,
        how=how,
    )


def _asked(rows: pd.DataFrame, labels: Mapping[str, Any]) -> pd.Series:
    """Where a table is about what was trained on and the answer is not the same for all."""
    mine = pd.Series(True, rows.index)
    for by, name in _TRAINED.items():
        mine &= rows[by].eq(labels[name]) | (labels[name] in _ANY)
    return mine & (rows["task"].ne(CONSTANT) | (labels["train_modality"] in _ANY))


def _answered(preds: pd.DataFrame, labels: Mapping[str, Any]) -> pd.Series:
    """Where the answers of a training stand, without those of its checkpoints."""
    mine = preds["method"].eq(labels["method"]) & preds["step"].isna()
    for name in _TRAINED.values():
        mine &= preds[name].eq(labels[name]) | (preds[name].isna() & (labels[name] in _ANY))
    return mine


# --- as HTML, and for a terminal --------------------------------------------------------------------------------------


def story_section(story: Story, note: str = "") -> str:
    """Return the section that a report opens with.

    Args:
        story: what is told.
        note: one more sentence: how the result is to be read.
    """
    shown = []
    for name, row in (("before training", story.before), ("after training", story.after)):
        about = {"gold": row["answer"], "options": list(row["options"]), "image_id": str(row["image_id"])}
        shown.append(completion_html(row["text"], story.format, name=name, recorded=row, pay=False, **about))
    chosen = {"before": story.before["predicted"], "after": story.after["predicted"]}
    floor, asked = np.full(len(story.steps), 100 * story.floor.accuracy), np.full(len(story.steps), np.nan)
    asked[[0, -1]] = 100 * story.change.accuracy_before, 100 * story.change.accuracy_after
    lines = {"while it trained": 100 * story.right, "guessed from the words": floor, "new questions": asked}
    drawn = curve("right answers (%), by step", story.steps, lines)
    drawn = f"<figure>{drawn}<figcaption><small>{_CAPTION}</small></figcaption></figure>"
    read = f'<p data-mk="note">{escape(note)}</p>' if note else ""
    body = (
        f'<p class="mk-told" data-mk="told">{escape(story.sentence)}</p>{read}'
        f"{question_html(story.after, chosen, Pictures(), drawn)}{side_by_side(shown)}"
        f'<p data-mk="how"><small>{escape(_LEGEND.format(how=story.how))}</small></p>'
    )
    return section("story", story.name, body)


def story_text(story: Story, note: str = "") -> str:
    """Return the same for a terminal of 100 columns."""
    picture = _drawn(str(story.after["image_id"]))
    asked = [*textwrap.wrap(story.after["question"], _WIDTH - 44), ""]
    for letter, option in zip(LETTERS, story.after["options"]):
        asked.append(f"{letter}) {option}" + "  ✓ gold" * (letter == story.after["answer"]))
    asked = [""] * ((len(picture) - len(asked)) // 2) + asked
    beside = [f"  {left}  {right}".rstrip() for left, right in zip(picture, asked + [""] * len(picture))]
    said = [
        _wrapped(f"{name} {_letter(row)} {'✓' if row['correct'] else '✗'}: {_marked(row) or row['text']}")
        for name, row in (("before", story.before), ("after", story.after))
    ]
    line = f"curve {_spark(story)}  right of those it sampled: {_ends(story)}"
    lines = [story.name, "", *beside, "", *said, line, "", *map(_wrapped, (story.sentence, note))]
    return visible("\n".join(lines))


def _wrapped(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), _WIDTH, subsequent_indent="  ")


def _letter(row: Mapping[str, Any]) -> str:
    return row["predicted"] if isinstance(row["predicted"], str) else "–"


def _marked(row: Mapping[str, Any]) -> str:
    """A completion with a sign behind each statement of its thought."""
    think = row["think"] if isinstance(row["think"], str) else ""
    parts, done = [], 0
    for one in check_rationale(think, str(row["image_id"])).statements:
        parts.append(f"{think[done : one.end]}{'✓' if one.holds else '✗'}")
        done = one.end
    return "".join([*parts, think[done:]])


def _drawn(image_id: str, wide: int = 40) -> list[str]:
    """An image in characters, half as many lines as columns: the brighter, the denser."""
    small = np.asarray(redraw(image_id).convert("L").resize((wide, wide // 2)), dtype=float)
    dark, bright = np.percentile(small, [2, 98])
    shades = np.clip((small - dark) / (bright - dark + 1) * len(_SHADES), 0, len(_SHADES) - 1).astype(int)
    return ["".join(_SHADES[shade] for shade in line) for line in shades]


def _spark(story: Story, wide: int = 40) -> str:
    """The curve in one line, 0 % at the bottom and 100 % at the top."""
    parts = np.array_split(story.right, min(wide, len(story.right)))
    return "".join(_BLOCKS[min(8, round(8 * part.mean()))] for part in parts)


def _ends(story: Story) -> str:
    """The first and the last tenth of the curve."""
    tenth = max(1, len(story.right) // 10)
    first, last = story.right[:tenth].mean(), story.right[-tenth:].mean()
    return f"{100 * first:.0f} → {100 * last:.0f} %"
