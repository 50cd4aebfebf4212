"""What the tiny model is taught to write: right in all that its annotator could tell, and weighed token by token.

A completion in think-before is made of three parts::

    <think>In the liver: small cyst, multiple, left.         described, weight 1
     So the answer is left cyst</think>                      concluded, weighs more
    <answer>B</answer>                                       answered, weight 1 but for the letter

In *borrowed* rows the description is that of another picture than the one shown. There it weighs nothing, since the
picture does not say it, and what is concluded and answered has to follow from what was written.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from medr1kit.data.phantoms import question_of, truth_of
from medr1kit.data.phantoms.rationales import write_rationale
from medr1kit.data.phantoms.truth import ImageId
from medr1kit.data.phantoms.twins import mistaken
from medr1kit.formats import ResponseFormat
from medr1kit.vqa import LETTERS, write_question

FACTS = ("modality", "anatomy", "finding", "size", "number", "attribute")  # what an image token says; no grade
LETTER_WEIGHT = 3.0
IMAGE_TOKENS = 16


def annotated(row: dict, rng: np.random.Generator) -> dict:
    """Return a phantom's row as the annotator wrote it: asked and explained by what they believe to see."""
    image_id = ImageId.read(row["image_id"])
    believed = mistaken(truth_of(image_id), rng)
    question = question_of(image_id, believed)
    written = write_question(question.stem, question.options, question.answer)
    facts = {fact: getattr(believed, fact) for fact in FACTS}
    told = {"rationale": write_rationale(believed, question, image_id.stream(7)), "truth": facts}
    return {"n_facts": question.kind.n_facts, **written, **told}


def encode(
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[dict],
    formats: Sequence[ResponseFormat],
    borrowed: Sequence[bool],
    conclusion_weight: float,
) -> tuple[torch.Tensor, ...]:
    """Return what a batch of examples is as numbers.

    Args:
        tokenizer: the tiny model's.
        rows: as :func:`annotated` returns them.
        formats: of each row.
        borrowed: of each row, whether its description is another picture's.
        conclusion_weight: of a token that concludes, above 0.

    Returns:
        Right-padded ids, mask, and the weight of the token that follows, (rows, length); for the four options the
        position of the last word and the flag, (rows, 4): the own letter if the option fits, else 4 for "none".
    """
    texts = [_parts(tokenizer, row, *how, conclusion_weight) for row, *how in zip(rows, formats, borrowed)]
    parts = [[(tokenizer.encode(text, add_special_tokens=False), w) for text, w in text] for text in texts]
    length = max(sum(len(ids) for ids, _ in some) for some in parts)
    ids = torch.full((len(rows), length), tokenizer.pad_token_id)
    mask, weight = torch.zeros_like(ids), torch.zeros(len(rows), length)
    for i, some in enumerate(parts):
        end = 0
        for tokens, w in some:
            ids[i, end : end + len(tokens)] = torch.tensor(tokens)
            if end:  # the weight stands where the token is predicted
                weight[i, end - 1 : end + len(tokens) - 1] = w
            end += len(tokens)
        mask[i, :end] = 1
    tag = tokenizer.convert_tokens_to_ids("<answer>")
    weight[(ids == tag) & (weight > 0)] *= LETTER_WEIGHT
    prompts = [some[0][0] for some in parts]
    return ids, mask, weight, *_flags(tokenizer, rows, prompts)


def _parts(
    tokenizer: PreTrainedTokenizerFast, row: dict, format: ResponseFormat, borrowed: bool, conclusion_weight: float
) -> list[tuple[str, float]]:
    """Prompt, description, conclusion and the rest of an example, each with the weight of its tokens."""
    content = [{"type": "image"}, {"type": "text", "text": format.prompt(row["problem"])}]
    turn = [{"role": "user", "content": content}]
    prompt = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    prompt = prompt.replace("<|image_pad|>", "<|image_pad|>" * IMAGE_TOKENS)
    completion = format.write(row["answer"], row["rationale"]) + "<|im_end|>"
    if "think" not in format.blocks:
        return [(prompt, 0.0), (completion, 1.0)]
    described = row["rationale"].partition(".")[0] + "."
    before, _, after = completion.partition(described)
    concluded, tag, rest = after.partition("</think>")
    said = [(before + described, 0.0 if borrowed else 1.0), (concluded + tag, conclusion_weight), (rest, 1.0)]
    return [(prompt, 0.0), *said]


def _flags(
    tokenizer: PreTrainedTokenizerFast, rows: Sequence[dict], prompts: Sequence[list[int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the last word of each option stands, and whether the option fits the picture: (rows, 4) each."""
    letters = [tokenizer.convert_tokens_to_ids(f" {letter})") for letter in LETTERS[:4]]
    at = torch.zeros(len(rows), 4, dtype=torch.long)
    for i, (row, prompt) in enumerate(zip(rows, prompts)):
        lengths = [len(option.split()) for option in row["options"]]
        at[i] = torch.tensor([prompt.index(letter) + n for letter, n in zip(letters, lengths)])
    gold = torch.tensor([LETTERS.index(row["answer"]) for row in rows])
    absent = torch.tensor([row["n_facts"] == 4 for row in rows])  # there every option but the gold one fits
    fits = (torch.arange(4) == gold[:, None]) ^ absent[:, None]
    return at, torch.where(fits, torch.arange(4), 4)
