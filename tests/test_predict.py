"""Prediction: greedy, resumable, labelled, and dependent on the picture."""

import json
from dataclasses import replace
from importlib import import_module
from itertools import pairwise

import pandas as pd
import pytest
from PIL import Image, ImageChops

import medr1kit as mk
from medr1kit.models.load import base_of, image_token_ids
from medr1kit.results.tables import PREDICTIONS, check_predictions
from medr1kit.vqa import DataError

answering = import_module("medr1kit.models.shared_prefix.answering")
predict_module = import_module("medr1kit.models.predict")  # medr1kit.predict itself is the function
WHO = ["model", "train_modality", "train_task", "method", "seed"]


@pytest.fixture(scope="module")
def right(tiny, val_phantoms):
    """The built-in model's answers to 80 validation phantoms."""
    return mk.predict(*tiny, val_phantoms, format="no-think", max_new_tokens=16)


def ask(model, processor, rows, **settings):
    return mk.predict(model, processor, rows, **({"format": "no-think", "max_new_tokens": 16} | settings))


def same_picture(one, other):
    return one.size == other.size and ImageChops.difference(one.convert("RGB"), other.convert("RGB")).getbbox() is None


# ---- the table -------------------------------------------------------------------------------------------------------


def test_predictions_follow_the_schema_and_the_data_sets_order(right, val_phantoms):
    assert tuple(right) == PREDICTIONS
    check_predictions(right)
    for name in ("id", "image_id", "source", "modality", "task", "question", "options", "answer"):
        assert right[name].tolist() == list(val_phantoms[name])
    assert set(right["format"]) == {"no-think"}
    assert right["correct"].dtype == bool and right["well_formed"].dtype == bool


@pytest.mark.parametrize("name", ["no-think", "think-before", "think-after"])
def test_answers_are_read_by_the_parser_that_pays_the_reward(tiny, val_phantoms, name):
    form = {f.name: f for f in (mk.NO_THINK, mk.THINK_BEFORE, mk.THINK_AFTER)}[name]
    rows = val_phantoms.select(range(24))
    preds = ask(*tiny, rows, format=name, max_new_tokens=30)
    solutions = list(rows["solution"])
    paid = mk.accuracy_reward(form)(preds["text"].tolist(), solution=solutions, options=preds["options"].tolist())
    assert preds["correct"].astype(float).tolist() == paid and 0 < sum(paid) < len(paid)
    for row in preds.to_dict("records"):
        parsed = form.parse(row["text"], row["options"])
        read = [None if pd.isna(row[column]) else row[column] for column in ("think", "predicted", "lenient_predicted")]
        assert read == [parsed.think, parsed.answer, parsed.lenient_answer]
        assert row["well_formed"] == parsed.well_formed and row["format"] == name


@pytest.mark.parametrize("name", ["no-think", "think-after"])
def test_greedy_in_a_padded_batch_is_greedy_alone(tiny, val_phantoms, name):
    """Each row's own ``model.generate``, unpadded, says the same, though the batch mixes prompt lengths."""
    model, processor = tiny
    form = mk.NO_THINK if name == "no-think" else mk.THINK_AFTER
    rows = val_phantoms.select(range(12))
    preds = ask(model, processor, rows, format=form, max_new_tokens=24, batch_size=12)
    lengths, alone = set(), []
    for row in rows:
        content = [{"type": "image"}, {"type": "text", "text": form.prompt(row["problem"])}]
        prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        inputs = processor(text=[prompt], images=[row["image"]], return_tensors="pt")
        output = model.generate(**inputs, do_sample=False, max_new_tokens=24, suppress_tokens=image_token_ids(model))
        ids = output[0, inputs["input_ids"].shape[1] :].tolist()
        lengths.add(inputs["input_ids"].shape[1])
        alone.append((processor.tokenizer.decode(ids, skip_special_tokens=True), len(ids)))
    assert len(lengths) > 1
    assert list(zip(preds["text"], preds["n_tokens"])) == alone


def test_the_batch_size_changes_nothing(tiny, val_phantoms, right):
    rows = val_phantoms.select(range(10))
    pd.testing.assert_frame_equal(ask(*tiny, rows, batch_size=3), right.head(10))


def test_max_new_tokens_is_a_limit_and_defaults_to_the_checkpoints(fresh_tiny, val_phantoms):
    model, processor = fresh_tiny
    rows = val_phantoms.select(range(6))
    assert ask(model, processor, rows, max_new_tokens=2)["n_tokens"].tolist() == [2] * 6
    model.generation_config.max_new_tokens = 3
    assert ask(model, processor, rows, max_new_tokens=None)["n_tokens"].tolist() == [3] * 6


@pytest.mark.parametrize("how", ["shared", "generate"])
def test_predicted_text_never_holds_image_placeholders(fresh_tiny, val_phantoms, monkeypatch, how):
    model, processor = fresh_tiny
    forbidden, written, decode = image_token_ids(model), [], processor.tokenizer.decode

    def crave(module, arguments, logits):
        logits[..., forbidden] += 50.0
        return logits

    def spy(ids, **settings):
        written.extend(ids)
        return decode(ids, **settings)

    model.lm_head.register_forward_hook(crave)
    monkeypatch.setattr(processor.tokenizer, "decode", spy)
    if how == "generate":
        monkeypatch.setattr(answering, "why_not_read", lambda model: "for the test")
    ask(model, processor, val_phantoms.select(range(6)), max_new_tokens=8)
    assert written and not set(written) & set(forbidden)


# ---- speed that changes nothing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("name", ["no-think", "think-before", "think-after"])
def test_the_answers_are_those_of_generate(tiny, val_phantoms, monkeypatch, name, stop):
    settings = {"format": name, "max_new_tokens": 40, "stop_at_answer": stop}
    shared = ask(*tiny, val_phantoms.select(range(24)), batch_size=10, **settings)
    monkeypatch.setattr(answering, "why_not_read", lambda model: "for the test")
    pd.testing.assert_frame_equal(shared, ask(*tiny, val_phantoms.select(range(24)), **settings))


def test_a_model_that_cannot_be_read_is_asked_by_generate(fresh_tiny, val_phantoms, right, monkeypatch):
    model, processor = fresh_tiny
    calls, generate = [], model.generate
    monkeypatch.setattr(model, "generate", lambda **inputs: calls.append(1) or generate(**inputs))
    ask(model, processor, val_phantoms.select(range(4)))
    assert not calls
    monkeypatch.setattr(model.config.text_config, "attention_dropout", 0.5)  # evaluation knows no dropout
    ask(model, processor, val_phantoms.select(range(4)))
    assert not calls
    monkeypatch.setattr(answering, "why_not_read", lambda model: "sliding windows")
    pd.testing.assert_frame_equal(ask(model, processor, val_phantoms.select(range(4)), batch_size=2), right.head(4))
    assert len(calls) == 2


def test_questions_about_one_picture_share_a_batch_and_the_longest_come_first(tiny, several_a_picture, monkeypatch):
    batches = []

    def answer(prompts, pictures):
        batches.append([(len(prompt), id(picture)) for prompt, picture in zip(prompts, pictures)])
        return [("<answer>A</answer>", 4)] * len(prompts)

    monkeypatch.setattr(predict_module, "answerer", lambda *model: answer)
    ask(*tiny, several_a_picture, batch_size=len(several_a_picture))
    pictures = [picture for _, picture in batches[0]]
    assert len(set(pictures)) == 6  # one object a picture
    assert sum(a != b for a, b in pairwise(pictures)) == 5  # and its questions side by side
    longest = [max(length for length, other in batches[0] if other == picture) for picture in dict.fromkeys(pictures)]
    assert longest == sorted(longest, reverse=True)


# ---- ending at the answer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["no-think", "think-after"])
def test_ended_at_the_answer_the_same_letters_are_read_from_shorter_texts(tiny, val_phantoms, name):
    full, short = (ask(*tiny, val_phantoms, format=name, max_new_tokens=40, stop_at_answer=s) for s in (False, True))
    assert all(
        text.startswith(ended) and ended.endswith("</answer>") for text, ended in zip(full["text"], short["text"])
    )
    for column in ("predicted", "lenient_predicted", "correct"):
        assert short[column].equals(full[column]), column
    assert (short["n_tokens"] == 3).all() and (full["n_tokens"] > 3).all()
    assert short["well_formed"].isna().all() and short["think"].isna().all()


def test_what_is_not_known_stays_unknown_in_scores_and_files(tiny, val_phantoms, right, tmp_path):
    short = ask(*tiny, val_phantoms, stop_at_answer=True, output=tmp_path / "p.parquet")
    table, whole = mk.score(short, by=None), mk.score(right, by=None)
    assert table.well_formed.isna().all() and whole.well_formed.notna().all()
    same = ["n", "accuracy", "low", "high", "lenient_accuracy", "chance"]
    assert table[same].equals(whole[same])
    assert pd.read_parquet(tmp_path / "p.parquet")["well_formed"].isna().all()
    assert mk.compare(short, right).difference == 0
    with pytest.raises(DataError, match=r"80 of 80 predictions were ended at their answer.*without stop_at_answer"):
        mk.rationale_truth(short)


def test_a_row_that_does_not_begin_with_its_answer_goes_on_to_its_end_and_is_known(tiny, val_phantoms, monkeypatch):
    texts = ["<answer>A</answer>", "<think>x</think><answer>A</answer>", "A", "<answer>A"]
    monkeypatch.setattr(predict_module, "answerer", lambda *model: lambda *asked: [(text, 4) for text in texts])
    preds = ask(*tiny, val_phantoms.select(range(4)), stop_at_answer=True)
    by_text = preds.set_index("text")["well_formed"]
    assert [by_text[text] for text in texts] == [None, False, False, False]


def test_in_think_before_there_is_nothing_to_leave_out(tiny, val_phantoms):
    rows = val_phantoms.select(range(8))
    frames = [ask(*tiny, rows, format="think-before", max_new_tokens=40, stop_at_answer=s) for s in (False, True)]
    pd.testing.assert_frame_equal(*frames)


@pytest.mark.parametrize(
    ("text", "closed"),
    [
        ("<answer>B</answer>", True),
        ("So: <answer>B</answer><think>", True),
        ("<answer>B", False),
        ("</answer>", False),
        ("</answer><answer>B</answer>", False),
        ("<think><answer>B</answer>", False),
        ("<think>x</think><answer>B</answer>", False),
    ],
)
def test_an_answer_is_closed_only_where_nothing_later_can_change_its_letter(text, closed):
    assert predict_module.answer_closed(text) is closed
    if closed:
        for more in (
            "</think>",
            "<think>x</think>",
            "<answer>C",
            " C",
            "</answer>",
            "<think><answer>C</answer></think>",
        ):
            assert mk.THINK_AFTER.parse(text + more).answer == mk.THINK_AFTER.parse(text).answer == "B"


def test_the_command_line_has_the_flag(tmp_path, capsys):
    from medr1kit.__main__ import main

    words = ["predict", "--dataset_name", "phantoms", "--num_rows", "4", "--output", str(tmp_path / "p.parquet")]
    assert main([*words, "--stop_at_answer"]) == 0
    assert pd.read_parquet(tmp_path / "p.parquet")["text"].str.endswith("</answer>").all()


# ---- settings that a checkpoint brings along -------------------------------------------------------------------------


def spoil(model):
    config = model.generation_config
    config.do_sample, config.temperature, config.top_k, config.repetition_penalty = True, 5.0, 3, 1.3
    config.min_new_tokens = 9


@pytest.mark.parametrize("adapted", [False, True])
def test_a_checkpoints_generation_settings_are_put_aside_and_restored(fresh_tiny, val_phantoms, right, adapted):
    model, processor = fresh_tiny
    spoil(model)
    if adapted:
        from peft import get_peft_model

        model = get_peft_model(model, mk.lora(rank=2))
    model.train()
    base = model.get_base_model() if adapted else model
    before, kept = base.generation_config.to_dict(), base.generation_config
    preds = ask(model, processor, val_phantoms.select(range(16)))
    assert preds["text"].tolist() == right["text"].head(16).tolist()
    assert base.generation_config is kept and base.generation_config.to_dict() == before
    assert model.generation_config.to_dict() == before
    assert model.training


def test_they_are_restored_after_an_error_too(fresh_tiny, val_phantoms, monkeypatch):
    model, processor = fresh_tiny
    kept = model.generation_config
    monkeypatch.setattr(predict_module, "answerer", lambda *model: lambda *asked: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ask(model, processor, val_phantoms.select(range(2)))
    assert model.generation_config is kept and not model.training


# ---- who answered ----------------------------------------------------------------------------------------------------


def test_an_untrained_model_is_labelled_as_the_base(right):
    assert right[WHO].drop_duplicates().iloc[0].tolist() == ["tiny", None, None, "base", None]
    assert len(right[WHO].drop_duplicates()) == 1


def test_labels_come_from_the_run_and_can_be_overridden(fresh_tiny, val_phantoms, tmp_path):
    model, processor = fresh_tiny
    rows, ct = val_phantoms.select(range(2)), mk.load_vqa("phantoms", split="train", modality="CT", task="MR", n=4)
    settings = {"max_steps": 1, "per_device_train_batch_size": 4, "seed": 7}
    mk.train_sft(model, processor, ct, format="no-think", output_dir=tmp_path / "run", **settings)
    trained = ["tiny", "CT", "Modality Recognition", "sft", 7]
    assert ask(model, processor, rows)[WHO].iloc[0].tolist() == trained
    loaded, _ = mk.load_model(tmp_path / "run")
    assert ask(loaded, processor, rows)[WHO].iloc[0].tolist() == trained
    overridden = ask(model, processor, rows, labels={"model": "mine", "train_modality": None})
    assert overridden[WHO].iloc[0].tolist() == ["mine", None, "Modality Recognition", "sft", 7]


def test_bad_requests_are_refused_before_anything_is_generated(tiny, val_phantoms, tmp_path):
    with pytest.raises(DataError, match=r"unknown labels \['modle'\]; use model, train_modality"):
        ask(*tiny, val_phantoms, labels={"modle": "x"})
    with pytest.raises(DataError, match=r"images='left' is unknown; use one of right, absent, blank, patches"):
        ask(*tiny, val_phantoms, images="left")
    with pytest.raises(DataError, match=r"has no images.*images=FOLDER"):
        ask(*tiny, val_phantoms.remove_columns("image"))
    with pytest.raises(DataError, match="unknown format 'haiku'"):
        ask(*tiny, val_phantoms, format="haiku")


def what_is_no_data_set(rows):
    import datasets

    yield "phantoms", "dataset is the text 'phantoms'; load it first: load_vqa"
    yield rows.to_list(), "dataset is a list; load it first"
    yield rows.to_pandas(), "dataset is a DataFrame; load it first"
    yield datasets.DatasetDict({"test": rows}), r"dataset is a DatasetDict with the splits test; choose a split"
    yield rows.to_iterable_dataset(), "dataset is a streamed data set; load it whole"
    yield rows.remove_columns("image"), r"dataset has no images.*images=FOLDER"
    yield rows.select([]), "dataset has no rows"
    yield None, "dataset is None"
    for column in ("id", "image_id", "problem", "question", "options", "answer"):
        yield rows.remove_columns(column), f"dataset has no column '{column}'"


@pytest.mark.parametrize(
    "probe", [mk.predict, mk.letter_probabilities, mk.visual_reliance, mk.position_bias, mk.prompt_sensitivity]
)
def test_what_is_no_data_set_of_questions_is_refused_by_all_that_ask(tiny, val_phantoms, probe):
    for dataset, sentence in what_is_no_data_set(val_phantoms.select(range(2))):
        with pytest.raises(DataError, match=sentence):
            probe(*tiny, dataset, format="no-think")
    rows = val_phantoms.select(range(2))
    for settings in ({"batch_size": 0}, {"batch_size": "8"}, {"max_new_tokens": 0}, {"max_new_tokens": -1}):
        with pytest.raises(DataError, match=rf"{next(iter(settings))}=.* is not a whole number of at least 1"):
            probe(*tiny, rows, format="no-think", **settings)
    with pytest.raises(DataError, match="model and processor are swapped"):
        probe(*tiny[::-1], rows, format="no-think")
    with pytest.raises(DataError, match="a format has a name, not None"):
        probe(*tiny, rows, format=None)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ("grpo", r"labels is the text 'grpo'; give a dict of model, .*step, or a run"),
        (["grpo"], "labels is a list"),
        ({1: "x"}, r"unknown labels \['1'\]"),
    ],
)
def test_labels_are_a_dict_or_a_run(tiny, val_phantoms, labels, sentence):
    with pytest.raises(DataError, match=sentence):
        ask(*tiny, val_phantoms, labels=labels)


def test_weights_that_went_to_pieces_in_memory_are_refused(fresh_tiny, val_phantoms):
    base_of(fresh_tiny[0]).lm_head.weight.data[3, 3] = float("nan")
    with pytest.raises(DataError, match=r"weights hold NaN or infinite values \(lm_head.weight\)"):
        ask(*fresh_tiny, val_phantoms)


def test_modality_task_and_source_may_be_unknown_columns(tiny, val_phantoms, right):
    rows = val_phantoms.select(range(4))
    preds = ask(*tiny, rows.remove_columns(["modality", "task", "source"]))
    assert preds["text"].tolist() == right["text"].head(4).tolist() and preds["modality"].isna().all()


def test_patients_and_steps_stand_in_the_table(tiny, val_phantoms, right):
    assert right["patient_id"].isna().all() and right["step"].isna().all()
    rows = val_phantoms.select(range(3)).add_column("patient_id", ["P1", None, "P2"])
    preds = ask(*tiny, rows, labels={"step": 40})
    assert preds["patient_id"].dropna().to_dict() == {0: "P1", 2: "P2"} and set(preds["step"]) == {40}


def test_a_template_that_opens_the_thinking_is_said(tiny, val_phantoms, monkeypatch):
    opened = tiny[1].chat_template.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")
    monkeypatch.setattr(tiny[1], "chat_template", opened)
    with pytest.warns(UserWarning, match="opens the thinking itself"):
        ask(*tiny, val_phantoms.select(range(1)), max_new_tokens=1)


# ---- the file --------------------------------------------------------------------------------------------------------


def test_the_file_is_named_as_what_it_holds(tiny, val_phantoms, tmp_path, monkeypatch):
    rows = val_phantoms.select(range(2))
    for name, sentence in (("p.csv", r"does not end in .parquet"), ("", "is a folder; name a file in it")):
        with pytest.raises(DataError, match=sentence):
            ask(*tiny, rows, output=tmp_path / name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    ask(*tiny, rows, output="~/deep/p.parquet")
    assert [file.name for file in (tmp_path / "home/deep").iterdir()] == ["p.parquet"]


def test_only_predictions_are_replaced(tiny, val_phantoms, tmp_path):
    rows, file = val_phantoms.select(range(2)), tmp_path / "p.parquet"
    pd.DataFrame({"question": ["mine"]}).to_parquet(file)
    with pytest.raises(DataError, match=r"p.parquet is there and holds no predictions; choose another name"):
        ask(*tiny, rows, output=file)
    assert pd.read_parquet(file)["question"].tolist() == ["mine"]
    for there in (b"PAR1 left half-written", None):
        if there is not None:
            file.write_bytes(there)
        assert ask(*tiny, rows, output=file)["id"].tolist() == pd.read_parquet(file)["id"].tolist()


def test_two_predictions_do_not_write_one_file(tiny, val_phantoms, tmp_path, monkeypatch):
    rows, file = val_phantoms.select(range(2)), tmp_path / "p.parquet"
    real, second = predict_module.answerer, []

    def while_it_answers(*model):
        if not second:
            second.append(1)
            with pytest.raises(DataError, match=r"p.parquet.partial.jsonl is being written by another prediction"):
                ask(*tiny, rows, output=file)
        return real(*model)

    monkeypatch.setattr(predict_module, "answerer", while_it_answers)
    assert len(ask(*tiny, rows, output=file)) == 2 and second and file.exists()


# ---- interruption ----------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Not an Exception: like an interrupt, nothing may swallow it."""


@pytest.fixture
def killed_after(monkeypatch):
    """Make the n-th batch fail, or (None) let all pass; returns the list of rows answered a batch."""
    real = predict_module.answerer

    def arrange(batches):
        answered = []

        def answerer(*model):
            answers = real(*model)

            def answer(prompts, pictures):
                if len(answered) == batches:
                    raise Killed
                answered.append(len(prompts))
                return answers(prompts, pictures)

            return answer

        monkeypatch.setattr(predict_module, "answerer", answerer)
        return answered

    return arrange


@pytest.mark.parametrize(("torn", "asked_again"), [(None, 8), ("cut", 9), ("zeros", 9), ("zeros inside", 12)])
def test_an_interrupted_prediction_goes_on_where_it_stopped(
    tiny, val_phantoms, right, tmp_path, killed_after, torn, asked_again
):
    rows, output = val_phantoms.select(range(20)), tmp_path / "deep" / "preds.parquet"
    partial = tmp_path / "deep" / "preds.parquet.partial.jsonl"
    killed_after(3)
    with pytest.raises(Killed):
        ask(*tiny, rows, output=output, batch_size=4)
    assert not output.exists() and partial.exists()
    content = partial.read_bytes()
    lines = content.split(b"\n")  # the header, twelve answers, nothing
    if torn == "cut":  # killed in the middle of a line
        partial.write_bytes(content[:-5])
    elif torn == "zeros":  # after a crash of the machine
        partial.write_bytes(b"\n".join([*lines[:12], b"\0" * len(lines[12]), b""]))
    elif torn == "zeros inside":
        partial.write_bytes(b"\n".join([*lines[:9], b"\0" * 30, *lines[10:]]))
    answered = killed_after(None)
    preds = ask(*tiny, rows, output=output, batch_size=4)
    assert sum(answered) == asked_again  # of 20, 12 were done
    pd.testing.assert_frame_equal(preds, right.head(20))
    assert [file.name for file in output.parent.iterdir()] == ["preds.parquet"]
    saved = pd.read_parquet(output)
    saved["options"] = saved["options"].map(list)
    assert saved.astype(object).where(saved.notna(), None).equals(preds.astype(object).where(preds.notna(), None))


@pytest.mark.parametrize("left", [b"", b'{"rows": 2', b"\0" * 40 + b"\n"], ids=["nothing", "half a line", "zeros"])
def test_one_that_was_killed_in_its_first_line_starts_anew(tiny, val_phantoms, tmp_path, left):
    (tmp_path / "p.parquet.partial.jsonl").write_bytes(left)
    assert len(ask(*tiny, val_phantoms.select(range(2)), output=tmp_path / "p.parquet")) == 2
    assert [file.name for file in tmp_path.iterdir()] == ["p.parquet"]


def test_no_moment_of_going_on_loses_an_answer(tiny, val_phantoms, right, tmp_path, killed_after):
    """A kill right after the file was opened again, before anything new was said."""
    rows, output = val_phantoms.select(range(12)), tmp_path / "p.parquet"
    killed_after(2)
    with pytest.raises(Killed):
        ask(*tiny, rows, output=output, batch_size=4)
    before = (tmp_path / "p.parquet.partial.jsonl").read_bytes()
    killed_after(0)
    with pytest.raises(Killed):
        ask(*tiny, rows, output=output, batch_size=4)
    assert (tmp_path / "p.parquet.partial.jsonl").read_bytes() == before


def test_it_can_be_interrupted_more_than_once(tiny, val_phantoms, right, tmp_path, killed_after):
    rows, output = val_phantoms.select(range(12)), tmp_path / "preds.parquet"
    for _ in range(2):
        killed_after(1)
        with pytest.raises(Killed):
            ask(*tiny, rows, output=output, batch_size=4)
    answered = killed_after(None)
    pd.testing.assert_frame_equal(ask(*tiny, rows, output=output, batch_size=4), right.head(12))
    assert answered == [4]


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "think-after"},
        {"format": replace(mk.NO_THINK, instruction="Letter?")},
        {"images": "blank"},
        {"max_new_tokens": 15},
        {"labels": {"seed": 1}},
        {"rows": range(19)},
        {"rows": range(1, 21)},
        {"images": "shuffled", "seed": 1},
        {"stop_at_answer": True},
    ],
    ids=[
        "format",
        "wording",
        "images",
        "limit",
        "labels",
        "fewer questions",
        "other questions",
        "other shuffle",
        "stop",
    ],
)
def test_a_partial_file_of_another_prediction_is_refused(tiny, val_phantoms, tmp_path, killed_after, changes):
    changes = dict(changes)
    rows, output = val_phantoms.select(changes.pop("rows", range(20))), tmp_path / "preds.parquet"
    killed_after(1)
    with pytest.raises(Killed):
        first = {"images": "shuffled"} if "seed" in changes else {}
        ask(*tiny, val_phantoms.select(range(20)), output=output, batch_size=4, **first)
    killed_after(None)
    with pytest.raises(DataError, match=r"preds.parquet.partial.jsonl was left by another prediction; delete it"):
        ask(*tiny, rows, output=output, **changes)


def test_a_partial_file_of_another_adapter_of_the_same_model_is_refused(
    fresh_tiny, val_phantoms, tmp_path, killed_after
):
    from peft import get_peft_model

    model, processor = fresh_tiny
    model = get_peft_model(model, mk.lora(rank=2, tower=True))
    model.add_adapter("other", mk.lora(rank=2, tower=True))
    rows, output = val_phantoms.select(range(8)), tmp_path / "preds.parquet"
    killed_after(1)
    with pytest.raises(Killed):
        ask(model, processor, rows, output=output, batch_size=4)
    model.set_adapter("other")
    killed_after(None)
    with pytest.raises(DataError, match="was left by another prediction"):
        ask(model, processor, rows, output=output, batch_size=4)
    model.set_adapter("default")
    assert len(ask(model, processor, rows, output=output, batch_size=4)) == 8


def test_a_partial_file_holds_what_was_said(tiny, val_phantoms, right, tmp_path, killed_after):
    killed_after(2)
    with pytest.raises(Killed):
        ask(*tiny, val_phantoms.select(range(20)), output=tmp_path / "p.parquet", batch_size=4)
    header, *lines = (tmp_path / "p.parquet.partial.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(header)["rows"] == 20
    for line in lines:
        i, text, n_tokens = json.loads(line)
        assert (text, n_tokens) == (right["text"][i], right["n_tokens"][i])
    assert len(lines) == 8


# ---- the picture -----------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    """What each question is shown: question text in the prompt -> picture; the model is not asked."""
    pictures = {}

    def answer(prompts, images):
        pictures.update(zip(prompts, images))
        return [("<answer>A</answer>", 4)] * len(prompts)

    monkeypatch.setattr(predict_module, "answerer", lambda *model: answer)

    def of(row):
        return next(picture for prompt, picture in pictures.items() if row["problem"] in prompt)

    return of


@pytest.fixture(scope="module")
def several_a_picture(val_phantoms):
    """Two CT pictures with three questions each, three OCT pictures with two, one MRI picture with two."""
    from datasets import Dataset

    counts = [("CT", 2, 3), ("OCT", 3, 2), ("MRI", 1, 2)]
    rows = []
    for modality, pictures, questions in counts:
        for row in [row for row in val_phantoms if row["modality"] == modality][:pictures]:
            for k in range(questions):
                text = {"id": f"{row['id']}-{k}", "problem": f"Question {len(rows)}: {row['problem']}"}
                rows.append(row | text)
    return Dataset.from_list(rows).cast_column("image", val_phantoms.features["image"])


@pytest.mark.parametrize("seed", range(6))
def test_a_shuffled_picture_is_another_of_its_modality(tiny, several_a_picture, shown, seed):
    ask(*tiny, several_a_picture, images="shuffled", seed=seed)
    for row in several_a_picture:
        modality = [other["image"] for other in several_a_picture if other["modality"] == row["modality"]]
        assert any(same_picture(shown(row), image) for image in modality)
        assert same_picture(shown(row), row["image"]) == (row["modality"] == "MRI")  # there is only one MRI


@pytest.mark.parametrize("seed", range(3))
def test_a_picture_shuffled_over_the_data_set_is_another_one_of_any_modality(tiny, several_a_picture, shown, seed):
    ask(*tiny, several_a_picture, images="shuffled-all", seed=seed)
    modality_of = {row["image"].tobytes(): row["modality"] for row in several_a_picture}
    seen = [(row["image_id"], modality_of[shown(row).tobytes()], row["modality"]) for row in several_a_picture]
    assert not any(same_picture(shown(row), row["image"]) for row in several_a_picture)
    assert len(set(seen)) == 6  # questions that share a picture share the other one, too
    assert any(picture != question for _, picture, question in seen)


def test_shuffling_depends_on_the_seed_alone(tiny, several_a_picture, shown):
    def run(seed):
        ask(*tiny, several_a_picture, images="shuffled", seed=seed)
        return [shown(row).tobytes() for row in several_a_picture]

    orders = [run(seed) for seed in range(6)]
    assert run(0) == orders[0] and len(set(map(tuple, orders))) > 1


def test_right_and_blank_pictures_are_what_they_say(tiny, several_a_picture, shown):
    ask(*tiny, several_a_picture)
    assert all(same_picture(shown(row), row["image"]) for row in several_a_picture)
    ask(*tiny, several_a_picture, images="blank")
    grey = Image.new("RGB", several_a_picture[0]["image"].size, (127, 127, 127))
    assert all(same_picture(shown(row), grey) for row in several_a_picture)


def test_the_other_architectures_answer_and_see(micro, val_phantoms):
    rows = val_phantoms.select(range(8))
    frames = [ask(*micro, rows, images=images, max_new_tokens=6) for images in ("right", "blank")]
    assert tuple(frames[0]) == PREDICTIONS and frames[0]["n_tokens"].between(1, 6).all()
    assert (frames[0]["text"] != frames[1]["text"]).any() and frames[0]["text"].nunique() > 1
    pd.testing.assert_frame_equal(frames[0], ask(*micro, rows, max_new_tokens=6, batch_size=1))


@pytest.mark.parametrize("like", [mk.NO_THINK, mk.THINK_BEFORE], ids=lambda format: format.name)
def test_a_format_of_ones_own_is_asked_scored_sorted_read_and_annotated(tiny, val_phantoms, tmp_path, like):
    wording = mk.ResponseFormat("their wording", like.blocks, like.instruction)
    preds = mk.predict(*tiny, val_phantoms.select(range(12)), format=wording, max_new_tokens=64)
    assert set(preds["format"]) == {"their wording"} and preds["well_formed"].any()
    assert mk.score(preds, by=None)["n"].tolist() == [12]
    found = mk.errors(preds)
    assert found.rows["reason"].tolist() == mk.errors(preds.assign(format=like.name)).rows["reason"].tolist()
    assert mk.inspect_outputs(preds)._repr_mimebundle_()["text/html"]
    assert mk.export_worksheet(found, tmp_path / "w.csv").is_file()
