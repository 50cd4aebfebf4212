"""One cell of code for each widget, on data that is recorded or drawn; tests and screenshots show the same.

The cells run in a folder in which :func:`write_run` has put a run.
"""

from __future__ import annotations

from pathlib import Path

import medr1kit as mk
from medr1kit.results.runs import RunWriter

INSPECT = """
import medr1kit as mk
preds = mk.recorded("clinic/answers", asked="B", format="think-before", modality=["CT", "MRI"])
base, grpo = preds.query("method == 'base'"), preds.query("part == 'machine' and method == 'grpo' and seed == 10")
grpo = grpo[grpo.train_modality == "CT"]
panel = mk.inspect_outputs(base, grpo)
panel
"""

RUN = """
import medr1kit as mk
panel = mk.explore_run("ct")
panel
"""

LAB = """
import medr1kit as mk
panel = mk.reward_lab()
panel
"""

TRANSFER = """
import medr1kit as mk
who = {"part": ["", "machine", "task"], "method": ["base", "sft-answer", "grpo"]}
preds = mk.recorded("clinic/answers", asked="B", format=["think-before", "think-after", "no-think"], **who)
preds = preds[preds.task != "Modality Recognition"]
panel = mk.explore_transfer(preds)
panel
"""

FEW = """
import medr1kit as mk
who = {"part": ["", "machine"], "method": ["base", "sft-answer", "grpo"], "modality": ["CT", "MRI", "OCT"]}
preds = mk.recorded("clinic/answers", asked="A", format=["think-before", "think-after", "no-think"], **who)
preds = preds[preds.train_modality.isin(["CT", "MRI"]) | preds.method.eq("base")]
panel = mk.explore_transfer(preds)
panel
"""
"""Transfer with six cells, for a walk through every one."""

DATA = """
import medr1kit as mk
train, test = (mk.load_vqa("phantoms", split=split, n=40, shortcut=1.0) for split in ("train", "test"))
panel = mk.explore_data(test, mk.audit(train, test))
panel
"""

QUIZ = """
import medr1kit as mk
who = {"part": "machine", "method": "grpo", "train_modality": "CT"}
preds = mk.recorded("clinic/answers", asked="A", format="think-before", **who).query("seed == 10")
test = mk.load_vqa("phantoms", split="test", n=80, seed=2026)
panel = mk.quiz(test, preds, n=3)
panel
"""

THOUGHTS = """
import medr1kit as mk
preds = mk.recorded("clinic/answers", asked="A", method="base", format="think-before", modality="CT")

def ask(row, thought):  # as a model that follows what it has thought
    named = [1 + 9 * thought.count(option) for option in row["options"]]
    return [count / sum(named) for count in named]

panel = mk.inspect_outputs(preds, ask=ask)
panel
"""

LIVE_STEPS = 200

LIVE = f"""
import medr1kit as mk
model, processor = mk.load_model("tiny")
train = mk.load_vqa("phantoms", split="train", n=32, scanner="B")
settings = dict(format="think-before", output_dir="live", overwrite=True, max_steps={LIVE_STEPS})
settings |= dict(per_device_train_batch_size=8, num_generations=4, max_completion_length=40)
def start():
    return mk.train_grpo(model, processor, train, live=True, **settings)
run = start()
"""
"""A training in its cell, with steps of two groups of four completions."""

LIVE_BUTTON = f"""
{LIVE.removesuffix("run = start()" + chr(10))}
from ipywidgets import Button, Output, VBox
begin, out = Button(description="train"), Output()
@out.capture()
def on_click(_):
    print("trained until step", start().labels["step"])
begin.on_click(on_click)
VBox([begin, out]).add_class("mk-panel")
"""
"""The same, begun by a click: a page of Voila is there only when all cells have run."""

WIDGETS = {"inspect": INSPECT, "thoughts": THOUGHTS, "run": RUN, "lab": LAB, "transfer": TRANSFER, "data": DATA}
WIDGETS |= {"quiz": QUIZ}
"""Each widget as a reader meets it."""


def write_run(folder: Path, steps: int = 80) -> None:
    """Write a run that ended: the recorded curves of a training on CT, and recorded answers in its groups."""
    who = {"part": "machine", "method": "grpo", "train_modality": "CT", "format": "think-before"}
    curves = mk.recorded("clinic/curves", **who).query("seed == 10").drop(columns="unit").loc[:, "step":].head(steps)
    answers = mk.recorded("clinic/answers", asked="A", modality="CT", **who).query("seed == 10").to_dict("records")
    with RunWriter(folder, {"summary": {"steps": steps}}) as run:
        for number, row in enumerate(curves.to_dict("records")):
            for answer in answers[2 * number % 96 :][:2]:
                run.rollout_rows(group(number + 1, answer))
            run.metrics_row(row)


def group(step: int, answer: dict):
    """Four completions of one question: a recorded answer, and what becomes of it with other letters."""
    keys = ("id", "question", "answer", "modality", "task")
    for number in range(4):
        letter = "ABCD"[(number + step) % len(answer["options"])]
        text = answer["text"].rsplit("<answer>", 1)[0] + f"<answer>{letter}</answer>"
        right = float(letter == answer["answer"])
        row = {"step": step, "rollout": number} | {key: answer[key] for key in keys}
        row |= {"options": list(answer["options"]), "text": text, "predicted": letter, "accuracy_reward": right}
        yield row | {"format_reward": 1.0, "advantage": 2 * right - 1, "n_tokens": 24, "truncated": False, "used": True}
