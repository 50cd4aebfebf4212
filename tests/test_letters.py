"""Letter probabilities: what greedy decoding says, and numbers computed by hand from a model that is a table."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset

import medr1kit as mk
from medr1kit.models.load import image_token_ids
from medr1kit.results.thoughts import until_answer
from medr1kit.vqa import DataError

# ---- the built-in model ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["no-think", "think-before", "think-after"])
def test_the_most_probable_letter_is_the_one_that_greedy_decoding_writes(tiny, val_phantoms, name):
    rows = val_phantoms.select(range(40))
    found = mk.letter_probabilities(*tiny, rows, format=name, max_new_tokens=40)
    said = mk.predict(*tiny, rows, format=name, max_new_tokens=40)
    written = said["text"].str.extract(r"<answer>([A-D])</answer>")[0]
    exact = written.notna() & (name != "think-before" or ~found["forced"])
    assert exact.sum() >= 24 and said["predicted"][exact].nunique() > 1
    assert found["predicted"][exact].tolist() == written[exact].tolist()
    assert found["id"].tolist() == list(rows["id"]) and set(found["format"]) == {name}
    assert found["correct"].tolist() == [p == a for p, a in zip(found["predicted"], rows["answer"])]


def test_probabilities_are_those_of_the_next_token_alone_and_unpadded(tiny, val_phantoms):
    model, processor = tiny
    rows = val_phantoms.select([0, 21, 40])
    found = mk.letter_probabilities(model, processor, rows, format="no-think")
    vocabulary, lengths = processor.tokenizer.get_vocab(), set()
    for row, one in zip(rows, found.to_dict("records")):
        content = [{"type": "image"}, {"type": "text", "text": mk.NO_THINK.prompt(row["problem"])}]
        prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        inputs = processor(text=[prompt + "<answer>"], images=[row["image"]], return_tensors="pt")
        lengths.add(inputs["input_ids"].shape[1])
        with torch.no_grad():
            logits = model(**inputs).logits[0, -1].clone()
        logits[image_token_ids(model)] = -torch.inf
        after = torch.softmax(logits, dim=-1)
        letters = "ABCDEF"[: len(row["options"])]
        sums = np.array([float(after[vocabulary[x]] + after[vocabulary[f"Ġ{x}"]]) for x in letters])
        assert one["mass"] == pytest.approx(sums.sum(), abs=1e-5)
        assert one["probabilities"] == pytest.approx((sums / sums.sum()).tolist(), abs=1e-5)
        assert one["confidence"] == max(one["probabilities"]) and sum(one["probabilities"]) == pytest.approx(1)
    assert len(lengths) > 1


def test_the_batch_size_changes_nothing_and_the_model_is_left_as_it_was(fresh_tiny, val_phantoms):
    model, processor = fresh_tiny
    model.train()
    rows = val_phantoms.select(range(9))
    frames = [mk.letter_probabilities(model, processor, rows, format="no-think", batch_size=n) for n in (4, 64)]
    assert np.allclose(*(frame["probabilities"].tolist() for frame in frames), atol=1e-5)
    assert model.training
    assert (
        frames[0]
        .drop(columns=["probabilities", "mass", "confidence"])
        .equals(frames[1].drop(columns=["probabilities", "mass", "confidence"]))
    )


def test_thinking_that_was_cut_off_is_closed_and_said_to_be(tiny, val_phantoms):
    rows = val_phantoms.select(range(6))
    found = mk.letter_probabilities(*tiny, rows, format="think-before", max_new_tokens=4)
    said = mk.predict(*tiny, rows, format="think-before", max_new_tokens=4)
    assert found["forced"].all()
    assert found["prefix"].tolist() == [f"{text}</think><answer>" for text in said["text"]]
    assert found["confidence"].nunique() == 6


def test_the_frame_says_who_answered_and_feeds_calibration(tiny, val_phantoms):
    rows = val_phantoms.select(range(16))
    found = mk.letter_probabilities(*tiny, rows, format="no-think", labels={"seed": 3})
    assert found[["model", "method", "seed"]].drop_duplicates().to_numpy().tolist() == [["tiny", "base", 3]]
    assert "image" not in found and found["prefix"].unique().tolist() == ["<answer>"] and found["forced"].all()
    assert mk.calibration(found).n == 16 and mk.calibration(found).accuracy == found["correct"].mean()


def test_adapters_and_the_other_architectures_are_read_too(micro, val_phantoms):
    from peft import get_peft_model

    model, processor = micro
    rows = val_phantoms.select(range(4))
    plain = mk.letter_probabilities(model, processor, rows, format="no-think")
    adapted = mk.letter_probabilities(get_peft_model(model, mk.lora(rank=2)), processor, rows, format="no-think")
    assert np.allclose(plain["probabilities"].tolist(), adapted["probabilities"].tolist(), atol=1e-5)  # B starts at 0
    assert plain["probabilities"].map(tuple).nunique() == 4


def test_no_images_and_no_questions_are_refused(tiny, val_phantoms):
    with pytest.raises(DataError, match="dataset has no rows"):
        mk.letter_probabilities(*tiny, val_phantoms.select([]), format="no-think")
    with pytest.raises(DataError, match="dataset has no images"):
        mk.letter_probabilities(*tiny, val_phantoms.remove_columns("image"), format="no-think")


@pytest.mark.parametrize(
    ("text", "prefix", "forced"),
    [
        (
            "<think>a <answer>B</answer></think> <answer>C</answer>",
            "<think>a <answer>B</answer></think> <answer>",
            False,
        ),
        ("<think>a<answer>B</answer>", "<think>a<answer>", False),
        ("<answer>B</answer><think>a</think>", "<answer>", False),
        ("<think>a</think>B", "<think>a</think><answer>", True),
        ("<think>a", "<think>a</think><answer>", True),
        ("B", "<answer>", True),
    ],
)
def test_a_completion_is_kept_up_to_its_letter(text, prefix, forced):
    assert until_answer(text) == (prefix, forced)


@pytest.mark.parametrize(
    ("text", "prefix", "forced"),
    [
        ("<A>B</A><T>a</T><A>C</A>", "<A>B</A><T>a</T><A>", False),
        ("<A>B</A><T>a</T>C", "<A>B</A><T>a</T><A>", True),
        ("<A>B</A><A>C</A>", "<A>B</A><A>", False),
        ("<A>B</A>", "<A>", False),
        ("<A>B</A><T>a", "<A>B</A><T>a</T><A>", True),
        ("<T>a", "<T>a</T><A>", True),
        ("B", "<A>", True),
    ],
)
def test_of_two_answers_the_last_is_the_one_and_own_tags_are_found(text, prefix, forced):
    own = mk.ResponseFormat("own", ("answer", "think", "answer"), "", {"think": "T", "answer": "A"})
    assert until_answer(text, own) == (prefix, forced)


def test_what_own_tags_surround_is_scored(tiny, val_phantoms):
    rows = val_phantoms.select(range(4))
    own = mk.ResponseFormat("own", ("answer",), mk.NO_THINK.instruction.replace("answer>", "A>"), {"answer": "A"})
    found = mk.letter_probabilities(*tiny, rows, format=own)
    assert set(found["prefix"]) == {"<A>"} and found["forced"].all()
    twice = mk.letter_probabilities(*tiny, rows, format=mk.ANSWER_THINK_ANSWER, max_new_tokens=30)
    assert twice["prefix"].str.endswith("<answer>").all() and (twice["prefix"] != "<answer>").any()


# ---- tokenizers that write tag and letter otherwise ------------------------------------------------------------------


class Table(torch.nn.Module):
    """Tokenizer, processor and model in one: longest match, and the next token depends on the last one alone."""

    generate = None  # it is never asked to

    def __init__(self, vocabulary, chances):
        super().__init__()
        self.vocabulary = ["", "Q", *vocabulary]
        self.logs = torch.full((len(self.vocabulary),) * 2, -30.0)
        for (before, after), chance in chances.items():
            self.logs[self.vocabulary.index(before), self.vocabulary.index(after)] = np.log(chance)
        self.tokenizer, self.device = self.read, "cpu"
        self.config = SimpleNamespace(_name_or_path="table")

    def read(self, text, add_special_tokens=False):
        ids = []
        while text:
            token = max((t for t in self.vocabulary if t and text.startswith(t)), key=len)
            ids.append(self.vocabulary.index(token))
            text = text[len(token) :]
        return {"input_ids": ids}

    def apply_chat_template(self, turns, **_):
        return "Q" * len(turns[0]["content"][1]["text"].split("A)")[0])  # longer questions, longer prompts

    def processor(self, text, images, padding, return_tensors):
        rows = [self.read(one)["input_ids"] for one in text]
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}

    def forward(self, input_ids, attention_mask, use_cache, logits_to_keep):
        assert attention_mask.shape == input_ids.shape
        return SimpleNamespace(logits=self.logs[input_ids[:, -logits_to_keep:]])


def ask(table):
    processor = table.processor
    processor = type("Processor", (), {"__call__": staticmethod(processor), "tokenizer": staticmethod(table.read)})()
    processor.apply_chat_template, processor.image_processor = table.apply_chat_template, None
    rows = {"id": ["1", "2"], "problem": ["Is it? A)x, B)y", "Is it so? A)x, B)y"], "options": [["x", "y"]] * 2}
    rows |= {"question": ["Is it?", "Is it so?"], "answer": ["B", "A"], "image_id": ["i", "j"], "image": ["p", "q"]}
    return mk.letter_probabilities(table, processor, Dataset.from_dict(rows), format="no-think")


def test_a_letter_with_its_blank_may_be_one_token_or_two():
    chances = {("<answer>", "A"): 0.3, ("<answer>", "B"): 0.1, ("<answer>", " "): 0.5, ("<answer>", "Q"): 0.1}
    chances |= {(" ", "A"): 0.2, (" ", "B"): 0.6, (" ", "Q"): 0.2}
    found = ask(Table(["<answer>", " ", "A", "B"], chances))
    a, b = 0.3 + 0.5 * 0.2, 0.1 + 0.5 * 0.6
    assert found["mass"].tolist() == pytest.approx([a + b] * 2)
    assert found["probabilities"][0] == pytest.approx([a / (a + b), b / (a + b)])


def test_a_vocabulary_that_melts_the_tags_end_with_the_letter():
    """As Qwen's may: "<answer" and ">A" are tokens, beside ">" and "A"."""
    chances = {("<answer", ">A"): 0.2, ("<answer", ">B"): 0.1, ("<answer", ">"): 0.6, ("<answer", "Q"): 0.1}
    chances |= {(">", "A"): 0.1, (">", "B"): 0.3, (">", " A"): 0.1, (">", " B"): 0.4, (">", "Q"): 0.1}
    found = ask(Table(["<answer", ">", "A", "B", " A", " B", ">A", ">B"], chances))
    a, b = 0.2 + 0.6 * (0.1 + 0.1), 0.1 + 0.6 * (0.3 + 0.4)
    assert found["mass"].tolist() == pytest.approx([a + b] * 2)
    assert found["probabilities"][1] == pytest.approx([a / (a + b), b / (a + b)])
    assert found["predicted"].tolist() == ["B", "B"] and found["correct"].tolist() == [True, False]
