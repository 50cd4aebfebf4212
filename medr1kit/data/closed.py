"""Short answers as closed questions: which options a question has that is answered "yes", or "CT or MRI?" with "CT".

Sets such as SLAKE and VQA-RAD call a question closed and give its answer alone. Its options are known where it is
answered with yes or no, and where the question names them. Elsewhere nobody states what else could have been answered,
and options made up for it would make another question of it.

Options say nothing about the gold: they are read out of the question before the answer is looked at, yes and no stand
in this order everywhere.
"""

from __future__ import annotations

import re

from medr1kit.vqa import LETTERS, fold

_ASKS = re.compile(r"\b(?:which|what|where|who|whose|how)\b", re.IGNORECASE)
_ARTICLES = re.compile(r"^\s*(?:(?:an?|the|is it|in|on|of|with)\s+)+", re.IGNORECASE)
_LONGEST = 3  # words after the "or" that are one option; of more only as many as stand before it
_VERBS = ("是", "有", "对", "能", "会", "可以", "包含", "包括", "存在")
_SHORT_ZH = 6  # characters of a Chinese option


def left_out(item: dict, answer_type: object) -> str:
    """Return why a question with a short answer is left out; empty if its options are known.

    Args:
        item: the row, with ``question`` and ``answer``.
        answer_type: "CLOSED" or "OPEN" as the authors say; anything else where they do not: then yes and no are closed.
    """
    kind = str(answer_type).strip().casefold()
    if kind == "open" or (kind != "closed" and yes_or_no(item["question"], item["answer"]) is None):
        return "open (they have no options)"
    return "" if _read(item) else "closed, with options that nobody states"


def closed_question(item: dict) -> dict:
    """Return question, options and solution of a row that :func:`left_out` does not leave out."""
    options, letter = _read(item)
    return {"question": str(item["question"]).strip(), "options": options, "solution": letter}


def _read(item: dict) -> tuple[list[str], str] | None:
    """Options and gold letter, or None."""
    question, answer = str(item["question"]), fold(item["answer"])
    options = named_options(question) or []
    folded = [fold(text) for text in options]
    exact = [place for place, text in enumerate(folded) if text == answer]
    meant = exact or [
        place for place, text in enumerate(folded) if text.startswith(answer + " ")
    ]  # T1 of "T1 weighted"
    if len(meant) == 1:
        return options, LETTERS[meant[0]]
    said = yes_or_no(question, answer)
    if said is None:
        return None
    options = ["yes", "no"] if said in ("yes", "no") else ["是", "否"]
    return options, LETTERS[options.index(said)]


def yes_or_no(question: object, answer: object) -> str | None:
    """Return "yes" or "no" ("是" or "否" in Chinese) if an answer says so; None if it says something else.

    A Chinese answer repeats the verb of the question, or denies it.

    >>> yes_or_no("Is it healthy?", "Yes."), yes_or_no("图片中包含肺吗?", "不包含"), yes_or_no("Which?", "lung")
    ('yes', '否', None)
    """
    question, answer = str(question), fold(str(answer))
    if answer in ("yes", "no"):
        return answer
    core = answer.removesuffix("的")
    denied = re.match(r"不|没有?|否|无|非", core)
    verb = core[denied.end() :] if denied else core
    if verb in _VERBS or (denied and not verb):
        return "否" if denied else "是"
    if not re.search("吗|是否", question) or not verb or verb not in question:
        return None
    return "是" if core in question else "否"


def named_options(question: str) -> list[str] | None:
    """Return the options that a question names, "… X or Y?", in its order; None if it names none.

    After "which …," the list is what follows the comma. Elsewhere the first option is what stands before the "or" (or
    the first comma): one word, or as many as repeat behind it ("left lung or right lung").

    >>> named_options("Is this a CT or an MRI?"), named_options("Which is bigger, liver or right kidney?")
    (['CT', 'MRI'], ['liver', 'right kidney'])
    >>> named_options("Is the lesion solid?") is None
    True
    """
    text = question.strip().rstrip("?？.。 ")
    if re.search(r"[\u3400-\u9fff]", text):
        texts = _named_in_chinese(text)
    else:
        *parts, tail = re.split(r",?\s+or\s+", text, flags=re.IGNORECASE)
        if not parts:
            return None
        first, *listed = re.split(r",\s*", parts[0])
        tail = _bare(tail).split()
        if listed and _ASKS.search(first):
            texts = [*listed, *parts[1:], " ".join(tail)]
        else:
            head = first.split()
            size = tail.index(head[-1]) + 1 if head and head[-1] in tail[:4] else 1
            whole = size == 1 and len(tail) <= _LONGEST
            texts = [" ".join(head[-size:]), *listed, *parts[1:], " ".join(tail if whole else tail[:size])]
        texts = [_bare(one).strip(" ,;:") for one in texts]
    return texts if len(texts) > 1 and all(texts) and len({fold(one) for one in texts}) == len(texts) else None


def _named_in_chinese(text: str) -> list[str]:
    """「A还是B」, 「A、B和C哪个…」: the options, or an empty list."""
    asked, comma, listed = text.rpartition(",") if "," in text else text.rpartition("，")
    if "还是" in listed and comma and re.search("哪|什么|何", asked):
        return [one.strip() for one in re.split("、|还是", listed)]
    if match := re.search(
        r"(?:.*?(?:图像|图片|图|片子|影像)[中里上]?的?[,，]?)?(.+?)(?:之间|相比)?[,，]?(?:哪|谁)", text
    ):
        return [one.strip() for one in re.split(r"[、,，和与跟]|或者?", match.group(1)) if one.strip()]
    *before, last = text.split("还是")
    tail = re.findall(r"[A-Za-z0-9]+|\S", last)
    if len(before) != 1 or not tail or len(tail) > _SHORT_ZH:
        return []
    head = re.findall(r"[A-Za-z0-9]+|\S", before[0])
    return ["".join(head[-(len(tail) - (tail[0] == "不")) :]), "".join(tail)]


def _bare(text: str) -> str:
    return _ARTICLES.sub("", text.strip())
