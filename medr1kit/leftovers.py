"""Leftovers: what a prompt left in the text of a question, and what must not stay there.

A question that was taken out of somebody's evaluation brings more than a question: a place holder for its image, tokens
of a chat template, "Answer with the letter only." behind the last option, sometimes the answer itself. The first and
the third are taken off; a token would be read as an image or the end of a turn, and an answer that is told makes every
score of its row mean nothing, so these are refused (:mod:`medr1kit.vqa`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

# What a tokenizer takes for an image, the end of a turn or the answer itself, in the chat templates in use.
_CONTROL = re.compile(
    r"<[|\uff5c][^<>|\uff5c\s]{1,40}[|\uff5c]>|<(?:start|end)_of_\w{1,20}>|<</?SYS>>|</?s>|<(?:bos|eos|pad|unk|mask)>"
    r"|\[/?(?:INST|IMG|IMG_BREAK|IMG_END|PAD|SEP|CLS|MASK|UNK|TOOL_CALLS)\]"
    r"|</?(?:image|img|video|audio|IMG_CONTEXT|image_soft_token|image_placeholder|tool_call|tool_response|fim_\w{1,9}"
    r"|unused\d{1,4}|extra_id_\d{1,3})>"
)
_TAGS = re.compile(r"</?\s{0,3}(?:think|thinking|answer)\s{0,3}/?>", re.IGNORECASE)
# Where a prompt shows its one image: LLaVA's <image>, MMMU's <image 1>.
_PLACE = r"(?:<image(?:\s?1)?>|<ImageHere>|\[image(?:\s?1)?\])"
_PLACES = re.compile(rf"^(?:\s*{_PLACE})+\s*|\s*(?:{_PLACE}\s*)+$", re.IGNORECASE)
_OTHER_PLACE = re.compile(r"<image\s?(?:[02-9]|1\d)>", re.IGNORECASE)

# What stands behind the options of a question that was taken out of a prompt: an instruction, or the answer itself.
_INSTRUCTION = re.compile(
    r"(?<=[\s.,;!?)])\(?(?:"
    r"(?:(?:the|your)\s)?(?:(?:correct|right|final|gold|best)\s)?(?:answer|ans|antwort)(?:\sis)?\s{0,9}[:=]"
    r"|(?:correct|right|gold)\s(?:option|choice|letter)\s{0,9}[:=]|(?:assistant|user|human|gpt)\s{0,9}:"
    r"|answer\sthe\squestion\b"
    r"|the\s(?:(?:correct|right|best)\s)?(?:answer|option|choice)\sis\b"
    r"|(?-i:(?:Select|Choose|Pick|Respond|Reply|Answer)\b[^\n]{0,80}?\b(?:[A-Z],?\sor\s[A-Z]|one)\b)"
    r"|(?<=\n)(?:solution|label|gold|key|ground\struth|hint)\s{0,9}[:=]"
    r"|(?:please\s|only\s|now\s)?(?:answer|respond|reply|select|choose|pick|return|output|give|state|write|provide|end)\b"
    r"[^\n]{0,80}?(?:\bletters?\b|\b(?:the|these|given|following|above)\s(?:options?|choices?)\b|\banswers?\b|<answer>"
    r"|\btags?\b|\bjson\b|\b[A-Z]\sor\s[A-Z]\b)"
    r"|(?<=\()(?:please\s)?(?:choose|select|pick|tick|mark)\b[^\n)]{0,60}\)"
    r"|(?:please\s)?(?:explain|justify|describe)\s(?:your|why|how|briefly|the\s(?:reason|choice|answer))\b"
    r"|(?:just|only)\sthe\s(?:option\s)?letter\b|letters?\sonly\b|only\sone\s(?:answer|option|choice|is)\b"
    r"|which\s(?:one\s|option\s|answer\s|of\s(?:these|them)\s)?is\s(?:correct|right|true)\b"
    r"|ans\.\s{0,3}\(?[A-Z]\b"
    r"|(?:let's\s|let\sus\s)?think\s(?:step|carefully)\b"
    r"|your\stask\b"
    r"|(?-i:Bitte|Wählen|Antworten|Kreuzen|Nennen|Geben|Répondez|Choisissez|Responda|Responde|Elija|Elige|Rispondi|"
    r"Scegli|Scegliere)\s[^\n]{0,80}?(?:\bSie\b|antwort|buchstabe|option|lettre|réponse|letra|opción|respuesta|lettera|"
    r"risposta)"
    r"|请"
    r").*",
    re.IGNORECASE | re.DOTALL,
)
# Text on a line of its own, or a letter that is told: no option, unless the other options look like this, too.
_TAIL = re.compile(
    r"\n.*|(?:\b\w+\s?[:=]|[-=]>|→|\b[Aa]nswer\b)\s?\(?[A-Z]\)?\.?$|(?<=\s)(?:\([A-Z]\)|\[[A-Z]\])\.?$", re.DOTALL
)
# In parentheses it stands in three questions of Med-R1's own files, which load as they are.
_TELLS = re.compile(
    r"(?<!\()(?:\b(?:answer|ans|solution|antwort|lösung|réponse|solución|respuesta|soluzione|risposta|gold|correct|richtig)"
    r"(?:\s(?:option|choice|letter|text|answer))?(?:\s(?:is|ist|est|es|è)\b)?|答案)(?:\s?[:=：]|(?<=is)|(?<=st)|是)"
    r"([^\n]{1,200})",
    re.IGNORECASE,
)


def control_token(text: str, tags: bool = True) -> str | None:
    """Return the first thing in a text that a chat model reads as something else than words.

    Args:
        text: a question, an option, a rationale.
        tags: whether the tags of an answer (``<think>``, ``<answer>``) count, too.

    >>> control_token("Which organ?<|im_end|>"), control_token("p < 0.05 and x > 3") is None
    ('<|im_end|>', True)
    """
    token = _CONTROL.search(text) or _OTHER_PLACE.search(text) or (_TAGS.search(text) if tags else None)
    return token and token.group()


def without_place(text: str) -> str:
    r"""Return a text without the place holder of its image at either end: each question has its image beside it.

    >>> without_place("<image>\nWhich organ?")
    'Which organ?'
    """
    return _PLACES.sub("", text) if "<" in text or "[" in text else text


def cut_tail(options: Sequence[str]) -> tuple[str, str]:
    """Return the last option without an instruction or an answer behind it, and other text that follows it.

    >>> cut_tail(["liver", "lung. Answer with the letter only."]), cut_tail(["liver", "lung (B)"])
    (('lung.', ''), ('lung (B)', '(B)'))
    """
    *others, last = options
    told = _INSTRUCTION.search(last)
    kept = last[: told.start()].rstrip(" \n\t\r;,(") if told else last
    more = _TAIL.search(kept)
    tail = more.group().strip() if more and not any(map(_TAIL.search, others)) else ""
    return kept or last, tail


def told_answer(question: str, options: Sequence[str], fold: Callable[[str], str]) -> str | None:
    """Return what tells an answer within a question: "Answer: B", "Lösung: lung".

    Args:
        question: the stem.
        options: its options.
        fold: how texts are compared (:func:`medr1kit.vqa.fold`).
    """
    for match in _TELLS.finditer(question):
        said = match.group(1).strip(" .()[]*\"'<>")
        if re.fullmatch(r"[A-Z]", said) or fold(said) in map(fold, options):
            return match.group()
    return None
