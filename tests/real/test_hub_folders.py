"""Folders as the Hub has them, with Qwen's own words: they train, predict, merge, and others read what comes of it.

``make test-real`` fetches the words, and torchvision for the process of the others, into ``.real``, beside the
environment. Weights are random; nothing here says how well a real model learns.
"""

import contextlib
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from hub_layout import FAMILIES, RANKS, SIZE, build, vocabulary_and_merges
from safetensors.torch import load_file, save_file

import medr1kit as mk
from medr1kit.__main__ import main
from medr1kit.data.load import load_vqa
from medr1kit.models.predict import chat_prompt

WORDS = {"Qwen2-VL": 151_657, "Qwen2.5-VL": 151_665, "Qwen3-VL": 151_669}
TOKENS = {"Qwen2-VL": 196, "Qwen2.5-VL": 196, "Qwen3-VL": 144}  # of a picture of 384 × 384
SHORT = ("--max_new_tokens", "10")
STEP = ("--learning_rate", "5e-3", "--warmup_steps", "0", "--gradient_accumulation_steps", "1")


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in FAMILIES])
def work(request, one_thread, tmp_path_factory):
    """A user's folder with ``hub/FAMILY``, and what the command line and Python have made of it."""
    assert RANKS.is_file(), f"{RANKS} is not there: make test-real fetches it"
    place, family = tmp_path_factory.mktemp("work"), request.param
    build(place / "hub" / family, family)
    rows, small = (load_vqa("phantoms", split="train", n=40, size=size) for size in (384, SIZE[family]))
    chosen = [i for i, answer in enumerate(rows["answer"]) if answer == "C"][:6]
    rows, small = rows.select(chosen), small.select(chosen)
    rows.save_to_disk(str(place / "questions"))
    with contextlib.chdir(place):
        trained_and_asked(family, small)
    return SimpleNamespace(place=place, family=family, hub=place / "hub" / family, rows=rows, small=small)


def trained_and_asked(family, small):
    """All weights by SFT from a shell, an adapter by GRPO from Python; both asked, the adapter merged."""
    base, data = ("--model_name_or_path", f"./hub/{family}"), ("--dataset_name", "questions")
    full = ("--use_peft", "false", "--max_steps", "12", "--per_device_train_batch_size", "1", *STEP)
    full = (
        *full,
        "--gradient_checkpointing",
        "false",
        "--lr_scheduler_type",
        "constant",
        "--max_pixels",
        str(SIZE[family] ** 2),
    )
    command("sft", *base, *data, *full, "--output_dir", "full")
    settings = {"max_steps": 2, "learning_rate": 1e-2, "warmup_steps": 0, "per_device_train_batch_size": 8}
    settings |= {"gradient_accumulation_steps": 1, "num_generations": 4, "max_completion_length": 16, "save_steps": 1}
    mk.train_grpo(
        *mk.load_model(f"./hub/{family}"),
        small,
        format=mk.NO_THINK,
        preset="gpu-24gb",
        rewards=[plain_letters],
        output_dir="grpo",
        **settings,
    )
    for run in ("full", "grpo"):
        command("predict", "--model_name_or_path", run, *data, *SHORT, "--output", f"{run}.parquet")
    command("predict", *base, *data, *SHORT, "--output", "base.parquet")
    command("merge", "grpo", "--output", "merged", "--dtype", "float32")


def plain_letters(completions, **columns):
    """A reward by which random completions differ: the share of their characters that are ASCII."""
    texts = [completion[0]["content"] for completion in completions]
    return [sum(map(str.isascii, text)) / max(1, len(text)) for text in texts]


def command(*words):
    assert main(list(words)) == 0, words


def texts(place, name):
    return pd.read_parquet(place / f"{name}.parquet")["text"].tolist()


# ---- the words -------------------------------------------------------------------------------------------------------


def test_the_words_are_qwens(work):
    tokenizer = mk.load_model(work.hub)[1].tokenizer
    assert len(tokenizer) == WORDS[work.family] and len(vocabulary_and_merges()[1]) == 151_387
    assert tokenizer.encode("Hello, world!") == [9707, 11, 1879, 0]
    answer = ["<", "answer", ">C", "</", "answer", ">"]  # the letter melts with the bracket
    assert tokenizer.tokenize("<answer>C</answer>") == answer
    thought = tokenizer.tokenize("<think>x</think><answer>")
    assert thought[0] == ("<think>" if work.family == "Qwen3-VL" else "<th") and thought[-2:] == ["answer", ">"]


def test_a_picture_of_384_has_its_tokens(work):
    model, processor = mk.load_model(work.hub)
    row = work.rows[0]
    inputs = processor(text=[chat_prompt(processor, mk.NO_THINK, row["problem"])], images=[row["image"]])
    assert inputs["input_ids"][0].count(model.config.image_token_id) == TOKENS[work.family]


# ---- trained, asked, found again -------------------------------------------------------------------------------------


def test_both_trainings_moved_what_they_train(work):
    losses = mk.load_run(work.place / "full").metrics["loss"]
    assert losses.iloc[-1] < losses.iloc[0] / 2
    run = mk.load_run(work.place / "grpo")
    assert run.rollouts.groupby("step")["plain_letters"].nunique().gt(1).all() and run.config["shared_prefix"] is True
    factors = load_file(work.place / "grpo" / "adapter" / "adapter_model.safetensors")
    assert len(factors) == 2 * 7 * 2 and all(weight.any() for weight in factors.values())
    assert texts(work.place, "grpo") != texts(work.place, "base")
    assert len(set(texts(work.place, "base"))) > 4, "answers that do not depend on the question would prove little"


@pytest.mark.parametrize("name", ["grpo", "full"])
def test_a_run_is_found_from_another_folder_and_answers_the_same(work, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)  # the base was given as ./hub/…
    model, processor = mk.load_model(work.place / name)
    preds = mk.predict(model, processor, work.rows, format=mk.NO_THINK, max_new_tokens=10)
    assert preds["text"].tolist() == texts(work.place, name)
    assert set(preds["method"]) == {{"grpo": "grpo", "full": "sft"}[name]}
    if name == "grpo":
        step, _ = mk.load_model(work.place / "grpo" / "checkpoint-1")
        assert set(mk.predict(step, processor, work.rows.select([0]), format="no-think", max_new_tokens=1)["step"]) == {
            1
        }


def test_a_merged_folder_answers_as_its_run_under_its_name(work):
    preds = mk.predict(*mk.load_model(work.place / "merged"), work.rows, format=mk.NO_THINK, max_new_tokens=10)
    run = pd.read_parquet(work.place / "grpo.parquet")
    assert preds["text"].tolist() == run["text"].tolist()
    assert preds["method"].tolist() == run["method"].tolist() and set(preds["seed"]) == {0}


def test_a_letter_that_melts_with_its_bracket_is_read_and_scored(work):
    preds = pd.read_parquet(work.place / "full.parquet")
    assert all(text.startswith("<answer>C</answer>") for text in preds["text"]) and set(preds["predicted"]) == {"C"}
    model, processor = mk.load_model(work.place / "full")
    letters = mk.letter_probabilities(model, processor, work.small, format=mk.NO_THINK)
    assert set(letters["predicted"]) == {"C"} and (letters["confidence"] > 0.9).all()
    row, scored = work.small[0], letters.iloc[0]
    for place, letter in enumerate("ABCD"[: len(row["options"])]):
        by_hand = sum(math.exp(log_probability(model, processor, row, written)) for written in writings(letter))
        assert scored["probabilities"][place] * scored["mass"] == pytest.approx(by_hand, rel=1e-3)


def writings(letter):
    """The ways in which Qwen's words put a letter behind ``<answer``, its bracket included."""
    return [[f">{letter}"], [">", letter], [">", f"Ġ{letter}"]]


def log_probability(model, processor, row, words):
    """Of these words, after ``<answer``, which is two."""
    tokenizer = processor.tokenizer
    inputs = processor(
        text=[chat_prompt(processor, mk.NO_THINK, row["problem"]) + "<answer"],
        images=[row["image"]],
        return_tensors="pt",
    )
    more = torch.tensor([tokenizer.convert_tokens_to_ids(words)])
    for name, ends in (("input_ids", more), ("attention_mask", torch.ones_like(more)), ("mm_token_type_ids", more * 0)):
        if name in inputs:
            inputs[name] = torch.cat([inputs[name], ends], dim=1)
    with torch.no_grad():
        logits = model(**inputs).logits[0, -len(words) - 1 : -1]
    logits[:, [151652, 151653, 151655, 151656]] = -torch.inf  # barred in every answer
    return logits.log_softmax(-1).gather(1, more.T).sum().item()


# ---- read by others --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs(work):
    """What stock classes make of each folder: a list of prompt, ids and text for each question."""
    folders = {"merged": work.place / "merged", "full": work.place / "full" / "model", "base": work.hub}
    folders["odd"] = copy_with(work.hub, work.place / "odd", "tokenizer_config.json", chat_template=TEXT_ONLY)
    questions = []
    for i, row in enumerate(work.small):
        row["image"].save(work.place / f"{i}.png")
        questions.append({"image": str(work.place / f"{i}.png"), "text": mk.NO_THINK.prompt(row["problem"])})
    asked = {"folders": [str(folder) for folder in folders.values()], "questions": questions, "max_new_tokens": 10}
    environment = os.environ | {"PYTHONPATH": str(RANKS.parents[2])}
    line = [sys.executable, str(Path(__file__).with_name("stock.py"))]
    done = subprocess.run(line, env=environment, input=json.dumps(asked), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(folders, json.loads(done.stdout)))


TEXT_ONLY = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def copy_with(folder, copy, file, **changes):
    """A copy of a folder with a settings file changed; None takes an entry out."""
    shutil.copytree(folder, copy, copy_function=os.link)
    settings = json.loads((copy / file).read_text(encoding="utf-8")) | changes
    (copy / file).unlink()  # the link, not what it leads to
    kept = {name: value for name, value in settings.items() if value is not None}
    (copy / file).write_text(json.dumps(kept), encoding="utf-8")
    return copy


@pytest.mark.parametrize("name", ["merged", "full", "base"])
def test_stock_classes_read_the_same_prompt_and_answer_the_same(work, theirs, name):
    folder = {"merged": work.place / "merged", "full": work.place / "full" / "model", "base": work.hub}[name]
    model, processor = mk.load_model(folder)
    prompts = [chat_prompt(processor, mk.NO_THINK, row["problem"]) for row in work.small]
    ours = [processor(text=[text], images=[row["image"]])["input_ids"][0] for text, row in zip(prompts, work.small)]
    assert [one["prompt"] for one in theirs[name]] == prompts
    assert [one["ids"] for one in theirs[name]] == [list(ids) for ids in ours]
    preds = mk.predict(model, processor, work.small, format=mk.NO_THINK, max_new_tokens=10)
    assert [one["text"] for one in theirs[name]] == preds["text"].tolist()


# ---- what a folder may be like ---------------------------------------------------------------------------------------


def test_the_processors_template_wins_over_the_tokenizers_as_it_does_with_stock_classes(work, theirs):
    processor = mk.load_model(work.place / "odd")[1]
    prompt = chat_prompt(processor, mk.NO_THINK, work.small[0]["problem"])
    assert prompt == theirs["odd"][0]["prompt"] == theirs["base"][0]["prompt"]
    assert prompt.count("<|image_pad|>") == 1


def test_a_folder_without_any_template_is_one_sentence(work, tmp_path):
    folder = copy_with(work.hub, tmp_path / "bare", "tokenizer_config.json", chat_template=None)
    (folder / "chat_template.json").unlink()
    with pytest.raises(mk.DataError, match=r"bare has no chat template; copy chat_template\.jinja \(or \.json\)"):
        mk.load_model(folder)


def test_weights_that_lack_a_layer_are_refused(work, tmp_path):
    folder = copy_with(work.hub, tmp_path / "partial", "generation_config.json")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    kept = {name: weight for name, weight in weights.items() if ".layers.1." not in name}
    assert 0 < len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(mk.DataError, match=r"partial lacks 1\d tensors \(.*layers\.1\..*would be random"):
        mk.load_model(folder)
