"""Short answers as closed questions: which options a question has that is answered "yes", or "CT or MRI?" with "CT".

Sets such as SLAKE and VQA-RAD call a question closed and give its answer alone. Its options are known where it is
answered with yes or no, and where the question names them. Elsewhere nobody states what else could have been answered,
and options made up for it would make another question of it.

Options say nothing about the gold: yes and no stand in this order everywhere, words of a question in theirs.
"""

from __future__ import annotations

import re

from medr1kit.vqa import LETTERS, fold

_YES = {"yes": "yes", "no": "no", "是": "是", "是的": "是", "有": "是", "对": "是", "能": "是"}
_YES |= dict.fromkeys(("否", "不是", "没有", "没", "不", "不对", "不能", "不是的"), "否")
_PAIRS = {"yes": ["yes", "no"], "no": ["yes", "no"], "是": ["是", "否"], "否": ["是", "否"]}


def left_out(item: dict, answer_type: object) -> str:
    """Return why a question with a short answer is left out; empty if its options are known.

    Args:
        item: the row, with ``question`` and ``answer``.
        answer_type: "CLOSED" or "OPEN" as the authors say; anything else where they do not: then yes and no are closed.
    """
    kind = str(answer_type).strip().casefold()
    if kind == "open" or (kind != "closed" and fold(item["answer"]) not in _YES):
        return "open (they have no options)"
    return "" if _options(item) else "closed, with options that nobody states"


def closed_question(item: dict) -> dict:
    """Return question, options and solution of a row that :func:`left_out` does not leave out."""
    options = _options(item)
    gold = _YES.get(fold(item["answer"]), fold(item["answer"]))
    letters = [letter for letter, text in zip(LETTERS, options) if fold(text) == gold]
    return {"question": str(item["question"]).strip(), "options": options, "solution": letters[0]}


def _options(item: dict) -> list[str] | None:
    """The options of a question: yes and no, or those that it names itself."""
    answer = fold(item["answer"])
    if answer in _YES:
        return _PAIRS[_YES[answer]]
    return named_options(str(item["question"]), str(item["answer"]))


def named_options(question: str, answer: str) -> list[str] | None:
    """Return the options that a question names, "… X or Y?", in its order, if the answer is one of them.

    Two phrases of the same number of words stand around the "or"; how many, one to four, the answer tells.

    >>> named_options("Is this a CT or an MRI?", "MRI"), named_options("Left, right or both?", "left")
    (['CT', 'MRI'], ['Left', 'right', 'both'])
    >>> named_options("Is the lesion solid?", "cystic") is None
    True
    """
    chinese = re.search(r"还是|或者?", question)
    parts = re.split(
        r"还是|或者?" if chinese else r",?\s+or\s+", question.strip().rstrip("?？.。 "), flags=re.IGNORECASE
    )
    if len(parts) < 2:
        return None
    first, *listed = re.split(r"[,，、]\s*", parts[0])
    unit, join = (r"[A-Za-z0-9]+|\S", "") if chinese else (r"\S+", " ")
    for k in range(1, 5):
        head, tail = re.findall(unit, first)[-k:], re.findall(unit, _bare(parts[-1]))[:k]
        texts = [join.join(head), *listed, *parts[1:-1], join.join(tail)]
        texts = [_bare(text).strip(" ,;:，") for text in texts]
        if fold(answer) in map(fold, texts):
            return texts if all(texts) and len(set(map(fold, texts))) == len(texts) else None
    return None


def _bare(text: str) -> str:
    return re.sub(r"^\s*(?:(?:an?|the|is it|in|on|of|with)\s+)+", "", text.strip(), flags=re.IGNORECASE)
