"""Tags: what marks the blocks of a completion, and how a text is cut at them.

Thought and answer stand between tags, ``<think>`` and ``<answer>`` or a user's own; which blocks there must be, and in
which order, is the matter of :mod:`medr1kit.formats`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from medr1kit.vqa import DataError

TAG = re.compile(r"</?(?:think|answer)>")  # any tag of the formats that have a name
ANY_TAG = re.compile(r"</?\s*(?:think(ing)?|thoughts?|reason(ing)?|rationale|answer|solution)\s*/?>", re.IGNORECASE)


def tags_given(tags: object, instruction: str) -> dict[str, str]:
    """Return the tag of each block; one that is left out has its block's name.

    Raises:
        DataError: if they could not be told apart, are no names, or the instruction asks for others.
    """
    own = {block: block for block in ("think", "answer")}
    if not isinstance(tags, Mapping) or not tags.keys() <= own.keys():
        raise DataError(f"tags={tags!r:.80}; give a dict from block to tag, as {{'think': 'REASONING'}}")
    for block, tag in tags.items():
        if not (isinstance(tag, str) and tag.isascii() and tag.isalpha()):
            raise DataError(f"tags: the tag of {block!r} is {tag!r:.40}; give letters only, without brackets")
        other = "answer" if block == "think" else "think"
        if tag.casefold() in (other, tags.get(other, other).casefold()):
            raise DataError(f"tags: the tag of {block!r} is {tag!r}, like that of {other!r}; give another")
        if tag != block and f"<{block}>" in instruction:
            raise DataError(f"the instruction asks for <{block}>, which is <{tag}> in tags=; write it there, too")
    return own | dict(tags)


def any_tag(tags: Mapping[str, str]) -> re.Pattern:
    """Return the pattern of any of some tags."""
    return re.compile(rf"</?(?:{'|'.join(tags.values())})>")


def cut(text: str, tags: Mapping[str, str]) -> tuple[list[str], list[str], str]:
    """Cut a completion into thinking texts, answer texts and what stands outside both.

    A block runs from its opening tag to the next closing tag of its kind; whatever lies inside belongs to it. A tag
    without a partner is dropped, so a missing ``</think>`` does not hide the answer after it.
    """
    inside: dict[str, list[str]] = {tag: [] for tag in tags.values()}
    outside, position, marks = [], 0, any_tag(tags)
    closing = {tag: [m.start() for m in re.finditer(f"</{tag}>", text)][::-1] for tag in inside}
    while match := marks.search(text, position):
        outside.append(text[position : match.start()])
        position = match.end()
        tag = match.group().strip("</>")
        while closing[tag] and closing[tag][-1] < position:
            closing[tag].pop()
        if not match.group().startswith("</") and closing[tag]:
            end = closing[tag].pop()
            inside[tag].append(text[position:end])
            position = end + len(f"</{tag}>")
    outside.append(text[position:])
    return inside[tags["think"]], inside[tags["answer"]], "\n".join(outside)


def misplaced(found: list[str], expected: list[str]) -> str:
    """Return what is wrong with the tags of a completion; empty if nothing is."""
    if missing := Counter(expected) - Counter(found):
        return f"{' '.join(missing)} missing"
    if len(found) > len(expected):
        return "there are more tags than the format has"
    return "" if found == expected else "the blocks stand in the wrong order"
