"""Letters without their tag: which one a free text states as its answer.

A completion that forgot its tags has often said an answer all the same: "The answer is (C).", "So: C) CT", a line with
nothing but "B". And many capitals in a medical text are no answers: vitamin C, hepatitis B, type A, a B-cell, 37 °C. So
a letter counts only where it *stands as an answer*: it opens its clause and is all of it, or goes on with a mark, an
option's words or a verb ("C because …", "C) CT"); or it follows a word that gives an answer ("the answer is", "I would
say", "option", "suggests"), a colon, or the words of its own option ("the lung (B)"). It never counts within a denial,
a condition or a question: "not C", "cannot be C", "rather than C", "C is wrong", "if it were C", "Nicht C", "is it C?".
Elsewhere a bare letter is a name, in any language. Of two letters that count none is the answer, nor where one takes
the other back: "the answer is C, no wait, B".

This is the lenient reading alone. What is paid and scored is read from the answer block (:mod:`medr1kit.formats`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

# A capital alone, or a small letter in parentheses; Chinese text leaves no blank before it.
_LETTER = re.compile(
    r"(?<!\w')(?<![\w°&+-])([A-Z])(?!'\w)(?!(?![\u3400-\u9fff])[\w&+])(?!-\w)"
    r"|(?<=\()([a-z])(?=\))|(?<=[\u3400-\u9fff])([A-Z])(?![A-Za-z0-9])"
)
_ALONE = re.compile(r"[\W_]*([A-Za-z])[\W_]*")

# Where one statement ends and the next begins; not within a list of letters ("A, B or D") or a name ("E. coli").
_BETWEEN = re.compile(
    r"[;\n，。；]|!|(?<=\?)|(?<!\b[A-Z])\.|\.(?!\w|\s?(?-i:[a-z]))"
    r"|(?<!\b[A-Z]),|,(?!\s*(?:(?:and|or|und|oder|et|ou)\s+)?[A-Z]\b)"
    r"|\b(?:(?=(?:rather than|instead of|as opposed to|plutôt que|au lieu|anstatt|statt)\b)"
    r"|(?<!\ball )(?<!\bany )(?<!thing )(?<!none )but\b"
    r"|(?:so|hence|therefore|thus|because|since|although|though|while|whereas|which|sondern|weil|denn|daher|also|mais|"
    r"car|donc|sino|pero|porque)\b|and\s+(?=(?:the|it|so|therefore|thus|hence|I)\b))|所以|因此",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"\b(?:not|no|nor|neither|never|none|nothing|cannot|without|except|excluding|unless|if|whether|unlikely|implausible|improbable|wrong|"
    r"incorrect|false|impossible|doubt\w*|hardly|rather than|instead of|opposed|other than|all but|any but|"
    r"\w+thing but|none but|against|absent|lack\w*|exclud\w*|rul\w+ out|reject\w*|eliminat\w*|discard\w*|dismiss\w*|"
    r"refut\w*|ignor\w*|contraindicat\w*|contradict\w*|second choice|"
    r"less likely|"
    r"least|differs? from|(?:is|are|was|does|do|ca|could|wo|would|should)n'?t|can't|"
    r"nicht|kein\w*|weder|noch|nie|niemals|ohne|statt|anstatt|außer|falsch|unwahrscheinlich|ausgeschlossen|wenn|falls|"
    r"pas|ni|jamais|sans|sauf|aucune?|plutôt que|au lieu|faux|si|nunca|sin|excepto|salvo|falso|incorrect[oa]|non(?!-)|"
    r"mai|senza|tranne|não|nem|sem|exceto)\b|不|非|没|無|无|否|错|排除|除了",
    re.IGNORECASE,
)
_VERB = (
    r"(?:is|was|are|were|can|could|does|do|would|will|may|might|must|should|seems?|looks?|appears?|fits?|"
    r"ist|kann|est|es)"
)
_LISTED = re.compile(r"[\s,/&).:(]*+(?:\b(?:and|or|und|oder|et|ou)\b|[和或与])?+[\s(]*+")
_DENIED_AFTER = re.compile(
    rf"(?:{_LISTED.pattern}\b[A-Z]\b)*+[\s*_$\"']*(?:[).:]?[\s*_$\"']*{_VERB}\b.*?|\s)(?={_DENIAL.pattern})"
    r"|[).:\s]*\s(?:excluded|wrong|incorrect|ruled out|unlikely|rejected|eliminated|fails?|lacks?|contradicts)\b"
    r"|[)\s]*(?:选?项)?[\s是为]*(?:错|不|非|可?以?被?排除|除外|以外)",
    re.IGNORECASE,
)

# What may stand between the word that gives an answer and the letter: marks, LaTeX, adverbs, "the option".
_OPENING = re.compile(
    r"(?:\\[a-z]+\{|[\s*_$\"'(\[{<\\]|\b(?:\w+ly|therefore|thus|then|indeed|still|most|more|perhaps|maybe|the|letter|"
    r"option|choice|answer|number|die|der|das|wohl|la|le|el)\b)*$",
    re.IGNORECASE,
)
_ANSWER = r"(?:\b(?:answer|option|choice|letter|antwort|lösung|respuesta|réponse|risposta)|答案|选项|选择|[选選])"
_NAMED, _LABEL = re.compile(_ANSWER, re.IGNORECASE), re.compile(rf"{_ANSWER}[\W_]*$", re.IGNORECASE)
_GIVES = re.compile(
    r"(?:[:=]|->|[是为為]|\b(?:is|be|are|was|as|it's|that's|say|says|choose|chose|select|selected|pick|picked|think|"
    r"believe|guess|go(?:es|ing)? with|opt for|lean(?:s|ing)? to(?:wards?)?|"
    r"(?:point|correspond)(?:s|ing)? to|settle on|looks? like|suggests?|indicates?|supports?|"
    r"favou?rs?|means|ist|sei|wäre|wähle|est|es|è|é|sería|serait))$",
    re.IGNORECASE,
)
# A name that ends in a letter is no answer, whatever stands between: "Grade: C", "the blood type is A".
_NAME = re.compile(
    r"\b(?:vitamin|hepatitis|influenza|types?|typ|grade|grad|stage|stadium|group|gruppe|class|klasse|category|level|"
    r"figure|fig|panel|image|segment|factor|protein|zone|region|arrow|label\w*|mark\w*|ha?emophilia)\W*"
    r"(?:\s(?:is|was|ist|be|as))?[\W_]*$",
    re.IGNORECASE,
)
_GOES_ON = re.compile(
    r"[*_$\"'\s]*(?:[):\]}]|\.(?!\w|\s[a-z])|$|-\s|/|,|\s\(|选?项|正确|是|为|对|因|符合|更|"
    rf"(?:{_VERB}|and|or|und|oder|et|ou|as|given|based|in|due|from|with|for|that|by|on|[A-Z])(?![\w-]))"
)
_CLOSES = re.compile(r"[\s)\].:]*$|\)")
# A word that takes back what was said, and the letter said in its place.
_TAKEN_BACK = re.compile(
    r"(?:\b(?:no|nein|non|nee)\b(?=\W*?[,.:;!–—-]|\s+wait\b)|\b(?:wait|actually|sorry|correction|scratch that|i mean|"
    r"on second thoughts?|rather(?! than)|moment)\b|不对|不是)"
    r"(?:[\s,.:;!*_()–—，。：-]|\b(?:no|wait|actually|sorry|it|it's|is|the|answer|option|letter|should|be|make|that|i|mean|say|"
    r"nein|es|ist|die|antwort)\b|是|答案)*+(?-i:([B-Z]|A(?!\s(?!is\b|as\b|because\b)[a-z])))(?![\w'-])",
    re.IGNORECASE,
)
_NEAR = 60  # characters around a letter that tell its part; keeps a long clause from being read again and again


def untagged_letter(text: str, choices: Mapping[str, str | None]) -> str | None:
    """Return the one letter that a text without tags states as its answer; None if it states none, or several.

    Args:
        text: free text, look-alike marks unified (:func:`medr1kit.alike.alike`).
        choices: letter to folded option text; None where the text is not known.

    >>> untagged_letter("Not a mass. The answer is (C).", dict.fromkeys("ABCD"))
    'C'
    >>> untagged_letter("The answer is not C.", dict.fromkeys("ABCD")) is None
    True
    """
    stated, said = set(), set()
    for clause in dict.fromkeys(_BETWEEN.split(_masked(text, choices))):  # each once: babble repeats itself
        for letter, named in _of_clause(clause, choices):
            (stated if named else said).add(letter)
        if len(stated) > 1:
            return None
    found = stated or said
    letter = found.pop() if len(found) == 1 else None
    return None if letter is None or _taken_back(text, letter, choices) else letter


def _taken_back(text: str, letter: str, choices: Mapping[str, str | None]) -> bool:
    """Whether another letter is put in the place of one that was said before."""
    return any(
        match[1] != letter
        and match[1] in choices
        and not _DENIED_AFTER.match(text[match.end() : match.end() + _NEAR])
        and re.search(rf"(?<![A-Za-z0-9]){letter}(?![A-Za-z0-9])", text[: match.start()])
        for match in _TAKEN_BACK.finditer(text)
    )


def bare_letters(text: str) -> set[str]:
    """Return every letter that stands by itself, an answer or not."""
    return {next(filter(None, match.groups())).upper() for match in _LETTER.finditer(text)}


def _masked(text: str, choices: Mapping[str, str | None]) -> str:
    """The text without option texts beside a letter, or before their own: the words of "B) No" deny nothing."""
    spelled = {letter: r"\s+".join(map(re.escape, words.split())) for letter, words in choices.items() if words}
    if not spelled or not _LETTER.search(text):
        return text
    words = "|".join(sorted(set(spelled.values()), key=len, reverse=True))
    text = re.sub(
        rf"(?<!\w)((?:(?-i:[B-HJ-Z])|[a-z][*_]?[).:])[*_]*[).:]?[*_]*[\s-]{{0,3}})(?:{words})(?!\w)",
        r"\1",
        text,
        flags=re.IGNORECASE,
    )
    for letter, own in spelled.items():
        text = re.sub(rf"(?<!\w){own}(?=\s{{0,2}}[(\[]\s?{letter}\s?[)\]])", ":", text, flags=re.IGNORECASE)
    return text


def _of_clause(clause: str, choices: Mapping[str, str | None]) -> Iterator[tuple[str, bool]]:
    """Yield the letters that stand as an answer in one clause, each with whether a word calls it the answer."""
    if clause.endswith("?"):
        return
    if alone := _ALONE.fullmatch(clause):
        if (letter := alone.group(1).upper()) in choices:
            yield letter, False
        return
    denial = _DENIAL.search(clause)
    end, stood, named = None, False, False
    for match in _LETTER.finditer(clause):
        if denial and denial.start() < match.start():
            return
        listed = stood and _LISTED.fullmatch(clause, end, match.start())
        letter, start, end = next(filter(None, match.groups())).upper(), *match.span()
        says, calls, denied = _part(clause[max(0, start - _NEAR) : start], letter, clause[end : end + _NEAR])
        stood, named = (stood, named) if listed else (says, calls)
        if stood and letter in choices and not denied:
            yield letter, named


@lru_cache(maxsize=1024)  # babble repeats itself
def _part(before: str, letter: str, after: str) -> tuple[bool, bool, bool]:
    """Whether a letter between two texts stands as an answer, is called the answer, and is denied."""
    denied = bool(_DENIED_AFTER.match(after))
    if _LABEL.search(before):
        return True, True, denied
    if _NAME.search(before) or not (_CLOSES if letter == "I" else _GOES_ON).match(after):
        return False, False, denied
    said = before[: _OPENING.search(before).start()].rstrip()
    return not said or bool(_GIVES.search(said)), bool(_NAMED.search(before)), denied
