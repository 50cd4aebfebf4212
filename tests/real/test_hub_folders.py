"""Folders as the Hub has them, with Qwen's own words: they train, predict, merge, and others read what comes of it.

``make test-real`` fetches the words, and torchvision for the process of the others, into ``.real``, beside the
environment. Weights are random; nothing here says how well a real model learns.
"""

import contextlib
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from hub_layout import RANKS, build, vocabulary_and_merges
from safetensors.torch import load_file, save_file

import medr1kit as mk
from medr1kit.__main__ import main
from medr1kit.models.predict import chat_prompt

ASKED = {"format": mk.NO_THINK, "max_new_tokens": 10}
SFT = """sft --use_peft false --max_steps 12 --learning_rate 5e-3 --warmup_steps 0 --lr_scheduler_type constant
    --per_device_train_batch_size 1 --gradient_accumulation_steps 1 --gradient_checkpointing false --output_dir full"""
GRPO = {"max_steps": 2, "learning_rate": 1e-2, "warmup_steps": 0, "num_generations": 4, "max_completion_length": 16}
GRPO |= {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "save_steps": 1, "preset": "gpu-24gb"}
TEXT_ONLY = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def command(line, *words):
    assert main([*shlex.split(line), *words]) == 0, line


def plain_letters(completions, **columns):
    """A reward by which random completions differ: the share of their characters that are ASCII."""
    texts = [completion[0]["content"] for completion in completions]
    return [sum(map(str.isascii, text)) / max(1, len(text)) for text in texts]


def questions(size):
    """Six questions whose answer is C, about pictures of size × size."""
    rows = mk.load_vqa("phantoms", split="train", n=40, size=size)
    return rows.select([i for i, answer in enumerate(rows["answer"]) if answer == "C"][:6])


def copy_with(folder, copy, **changes):
    """A copy of a folder with settings of its tokenizer changed; None takes one out."""
    shutil.copytree(folder, copy, copy_function=os.link)
    file = copy / "tokenizer_config.json"
    settings = json.loads(file.read_text(encoding="utf-8")) | changes
    file.unlink()  # the link, not what it leads to
    file.write_text(json.dumps({name: value for name, value in settings.items() if value is not None}))
    return copy


def log_probability(model, processor, row, words):
    """Of these words after ``<answer``, which is two words itself."""
    text = chat_prompt(processor, mk.NO_THINK, row["problem"]) + "<answer"
    inputs = processor(text=[text], images=[row["image"]], return_tensors="pt")
    more = torch.tensor([processor.tokenizer.convert_tokens_to_ids(words)])
    for name, end in (("input_ids", more), ("attention_mask", torch.ones_like(more)), ("mm_token_type_ids", more * 0)):
        if name in inputs:
            inputs[name] = torch.cat([inputs[name], end], dim=1)
    with torch.no_grad():
        logits = model(**inputs).logits[0, -len(words) - 1 : -1]
    logits[:, [151652, 151653, 151655, 151656]] = -torch.inf  # barred in every answer
    return logits.log_softmax(-1).gather(1, more.T).sum().item()


class HubFolder:
    """What holds of each family. Attributes: its name; the number of its words; the side of a picture that no processor
    resizes; the tokens of pictures by their sides."""

    family, words, side, tokens = "", 0, 0, {}

    @pytest.fixture(scope="class")
    def work(self, request, one_thread, tmp_path_factory):
        """A user's folder with ``hub/FAMILY``, and what the command line and Python have made of it."""
        assert RANKS.is_file(), f"{RANKS} is not there: make test-real fetches it"
        place, own = tmp_path_factory.mktemp("work"), request.cls
        build(place / "hub" / own.family, own.family)
        rows, small = questions(384), questions(own.side)
        rows.save_to_disk(str(place / "questions"))
        base, data = f"--model_name_or_path ./hub/{own.family}", "--dataset_name questions"
        with contextlib.chdir(place):
            command(f"{SFT} {base} {data} --max_pixels {own.side**2}")
            model = mk.load_model(f"./hub/{own.family}")
            mk.train_grpo(*model, small, format=mk.NO_THINK, rewards=[plain_letters], output_dir="grpo", **GRPO)
            for name, asked in {"full": "full", "grpo": "grpo", "base": f"./hub/{own.family}"}.items():
                ask = f"predict --model_name_or_path {asked} {data} --max_new_tokens 10 --output {name}.parquet"
                command(ask)
            command("merge grpo --output merged --dtype float32")
        said = {name: pd.read_parquet(place / f"{name}.parquet") for name in ("full", "grpo", "base")}
        return SimpleNamespace(place=place, hub=place / "hub" / own.family, rows=rows, small=small, said=said)

    @pytest.fixture(scope="class")
    def base(self, work):
        return mk.load_model(work.hub)

    @pytest.fixture(scope="class")
    def theirs(self, work):
        """What stock classes make of each folder: prompt, ids and text for each question."""
        folders = {"merged": work.place / "merged", "full": work.place / "full" / "model", "base": work.hub}
        folders["odd"] = copy_with(work.hub, work.place / "odd", chat_template=TEXT_ONLY)
        asked = []
        for i, row in enumerate(work.small):
            row["image"].save(work.place / f"{i}.png")
            asked.append({"image": str(work.place / f"{i}.png"), "text": mk.NO_THINK.prompt(row["problem"])})
        asked = {"folders": [str(folder) for folder in folders.values()], "questions": asked, "max_new_tokens": 10}
        line = [sys.executable, str(Path(__file__).with_name("stock.py"))]
        environment = os.environ | {"PYTHONPATH": str(RANKS.parents[2])}
        done = subprocess.run(line, env=environment, input=json.dumps(asked), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return dict(zip(folders, json.loads(done.stdout)))

    # ---- the words ---------------------------------------------------------------------------------------------------

    def test_the_words_are_qwens(self, base):
        tokenizer = base[1].tokenizer
        assert len(tokenizer) == self.words and len(vocabulary_and_merges()[1]) == 151_387
        assert tokenizer.encode("Hello, world!") == [9707, 11, 1879, 0]
        answer = ["<", "answer", ">C", "</", "answer", ">"]  # the letter melts with the bracket
        assert tokenizer.tokenize("<answer>C</answer>") == answer
        assert ("<think>" in tokenizer.tokenize("<think>x")) == (self.family == "Qwen3-VL")

    def test_a_picture_has_its_tokens_and_the_prompt_one_place_for_it(self, work, base):
        model, processor = base
        prompt = chat_prompt(processor, mk.NO_THINK, work.rows[0]["problem"])
        assert prompt.count("<|image_pad|>") == 1
        for side, tokens in self.tokens.items():
            ids = processor(text=[prompt], images=[work.rows[0]["image"].resize((side, side))])["input_ids"][0]
            assert list(ids).count(model.config.image_token_id) == tokens

    # ---- trained, asked, found again ---------------------------------------------------------------------------------

    def test_both_trainings_moved_what_they_train(self, work):
        losses = mk.load_run(work.place / "full").metrics["loss"]
        assert len(losses) == 12 and losses.iloc[-1] < losses.iloc[0] / 2
        run = mk.load_run(work.place / "grpo")
        assert run.rollouts.groupby("step")["plain_letters"].nunique().gt(1).all()
        assert run.config["shared_prefix"] is True
        factors = load_file(work.place / "grpo" / "adapter" / "adapter_model.safetensors")
        assert len(factors) == 2 * 7 * 2 and all(weight.any() for weight in factors.values())
        recorded = json.loads((work.place / "grpo" / "adapter" / "adapter_config.json").read_text())
        assert recorded["base_model_name_or_path"] == f"hub/{self.family}", "as it was given, not where it is"
        texts = {name: frame["text"].tolist() for name, frame in work.said.items()}
        assert texts["grpo"] != texts["base"] != texts["full"]
        assert len(set(texts["base"])) == 6, "answers that did not depend on the question would prove little"

    @pytest.mark.parametrize("name", ["grpo", "full"])
    def test_a_run_is_found_from_another_folder_and_answers_the_same(self, work, tmp_path, monkeypatch, name):
        monkeypatch.chdir(tmp_path)  # the base was given as ./hub/…
        preds = mk.predict(*mk.load_model(work.place / name), work.rows, **ASKED)
        pd.testing.assert_frame_equal(preds, work.said[name], check_dtype=False)

    def test_a_checkpoint_is_found_there_too_with_its_step(self, work, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        model = mk.load_model(work.place / "grpo" / "checkpoint-1")
        assert mk.predict(*model, work.rows.select([0]), **ASKED)["step"].tolist() == [1]

    def test_a_letter_that_melts_with_its_bracket_is_read_and_scored(self, work):
        said = work.said["full"]
        assert all(text.startswith("<answer>C</answer>") for text in said["text"]) and set(said["predicted"]) == {"C"}
        model, processor = mk.load_model(work.place / "full")
        letters = mk.letter_probabilities(model, processor, work.small, format=mk.NO_THINK)
        assert set(letters["predicted"]) == {"C"} and letters["confidence"].min() > 0.9
        row, scored = work.small[0], letters.iloc[0]
        for place, letter in enumerate("ABCD"[: len(row["options"])]):
            written = ([f">{letter}"], [">", letter], [">", f"Ġ{letter}"])  # Ġ: a blank before it
            by_hand = sum(math.exp(log_probability(model, processor, row, words)) for words in written)
            assert scored["probabilities"][place] * scored["mass"] == pytest.approx(by_hand, rel=1e-3)

    # ---- read by others, and as a merged folder by ourselves ---------------------------------------------------------

    def test_a_merged_folder_answers_as_its_run_under_its_name(self, work):
        preds = mk.predict(*mk.load_model(work.place / "merged"), work.rows, **ASKED)
        pd.testing.assert_frame_equal(preds, work.said["grpo"], check_dtype=False)

    @pytest.mark.parametrize("name", ["merged", "full", "base"])
    def test_stock_classes_read_the_same_prompt_and_answer_the_same(self, work, base, theirs, name):
        folder = {"merged": work.place / "merged", "full": work.place / "full" / "model"}.get(name)
        model, processor = base if folder is None else mk.load_model(folder)
        prompts = [chat_prompt(processor, mk.NO_THINK, row["problem"]) for row in work.small]
        pairs = zip(prompts, work.small)
        ids = [list(processor(text=[text], images=[row["image"]])["input_ids"][0]) for text, row in pairs]
        texts = mk.predict(model, processor, work.small, **ASKED)["text"]
        ours = [{"prompt": prompt, "ids": i, "text": text} for prompt, i, text in zip(prompts, ids, texts)]
        assert theirs[name] == ours

    # ---- what a folder may be like -----------------------------------------------------------------------------------

    def test_the_processors_template_wins_over_the_tokenizers_as_it_does_with_stock_classes(self, work, theirs):
        processor = mk.load_model(work.place / "odd")[1]
        ours = [chat_prompt(processor, mk.NO_THINK, row["problem"]) for row in work.small]
        assert ours == [one["prompt"] for one in theirs["odd"]] == [one["prompt"] for one in theirs["base"]]

    def test_a_folder_without_any_template_is_one_sentence(self, work, tmp_path):
        folder = copy_with(work.hub, tmp_path / "bare", chat_template=None)
        (folder / "chat_template.json").unlink()
        with pytest.raises(mk.DataError, match=r"bare has no chat template; copy chat_template\.jinja \(or \.json\)"):
            mk.load_model(folder)

    def test_weights_that_lack_a_layer_are_refused(self, work, tmp_path):
        folder = copy_with(work.hub, tmp_path / "partial")
        weights = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        kept = {name: weight for name, weight in weights.items() if ".layers.1." not in name}
        assert 0 < len(kept) < len(weights)
        save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(mk.DataError, match=r"partial lacks 1\d tensors \(.*layers\.1\..*would be random"):
            mk.load_model(folder)


class TestQwen2VL(HubFolder):
    family, words, side, tokens = "Qwen2-VL", 151_657, 112, {112: 16, 384: 196}


class TestQwen25VL(HubFolder):
    family, words, side, tokens = "Qwen2.5-VL", 151_665, 112, {112: 16, 384: 196}


class TestQwen3VL(HubFolder):
    family, words, side, tokens = "Qwen3-VL", 151_669, 256, {112: 64, 384: 144}
