"""Pictures of what the model reads and writes: the prompt, three formats on one time line, the shared prefix."""

from __future__ import annotations

import textwrap

import medr1kit as mk
from scripts.draw_ideas import example
from scripts.draw_ideas.sheet import MONO, WIDTH, Sheet

IMAGE, WORDS, RIGHT, WRONG = "pale0", "box", "pale2", "pale3"


def visible(token: str) -> str:
    """A token with its blanks and line ends to be seen."""
    return token.replace(" ", "·").replace("\n", "↵")


def prompt() -> Sheet:
    """Pixels, patches, image tokens, and the prompt, token by token."""
    row, read = example.question(), example.prompt()
    image, merged = row["image"], read.rows // 2
    patch, count = image.width // read.columns, len(read.image)
    sheet = Sheet(
        "prompt", 650, "What the model reads: a picture becomes tokens, among words",
        f"A drawn CT image of {image.width} by {image.height} pixels is cut into {read.rows} by {read.columns} "
        f"patches; four neighbours make one image token, {count} in all. Below, the whole prompt as boxes, token "
        f"by token: it opens the user's turn, then come vision_start, the {count} image tokens, vision_end, the "
        "question with its options, the instruction, and the line that opens the model's turn.",
    )  # fmt: skip
    for x, parts, gap, head, foot in (
        (28, 1, 0, "1  pixels", f"{image.width} × {image.height}, three colours"),
        (222, read.rows, 3, "2  patches", f"{read.rows} × {read.columns}, {patch} × {patch} pixels each"),
        (440, merged, 8, "3  image tokens", "four patches become one,\nas many numbers as a word has"),
    ):
        sheet.text(x, 78, head, bold=True)
        side = image.width // parts
        for i in range(parts):
            for j in range(parts):
                sheet.picture(image, x + j * (136 // parts + gap), 90 + i * (136 // parts + gap), 136 // parts,
                              (j * side, i * side, side, side))  # fmt: skip
        sheet.text(x, 90 + 136 + (parts - 1) * gap + 20, foot, size=12, tone="soft")
    sheet.arrow((174, 158), (212, 158))
    sheet.text(193, 148, "cut", size=12, tone="soft", anchor="middle")
    sheet.arrow((390, 158), (430, 158))
    sheet.text(410, 131, "vision\ntower", size=12, tone="soft", anchor="middle")
    sheet.text(650, 78, "and the question", bold=True)
    sheet.box(650, 90, 210, 146)
    lines = [*textwrap.wrap(row["question"], 28), *example.lettered(row["options"])]
    sheet.text(662, 112, "\n".join(lines), size=13)
    sheet.text(662, 112 + 17.55 * len(lines) + 6, "+ what the format asks for", size=12, tone="soft")
    sheet.text(
        28, 316, f"The prompt: {len(read.tokens)} tokens, each a box or a piece of the picture", size=16, bold=True
    )
    _write_prompt(sheet, read)
    sheet.arrow((520, 294), (520, 374))
    sheet.arrow((860, 158), (886, 158), (886, 430), (873, 430))
    return sheet


def _write_prompt(sheet: Sheet, read: example.Prompt) -> None:
    """The prompt's tokens, a part of it a line."""
    tokens, row = read.tokens, example.question()
    start, end = read.image[0] - 1, read.image[-1] + 1
    asked = next(i for i, token in enumerate(tokens) if "Your task" in token)
    side = 2 * row["image"].width // read.columns
    y = 336
    for note, begin, stop in (
        ("the user's turn", 0, start),
        (f"the image,\n{len(read.image)} × {tokens[start + 1]}", start, end + 1),
        ("the question,\nits options", end + 1, asked),
        ("the instruction\n(one token here,\nmany in Qwen's)", asked, asked + 1),
        ("the model's turn", asked + 1, len(tokens)),
    ):
        sheet.text(28, y + (17 if "\n" not in note else 10), note, size=12, tone="soft")
        x = 152.0
        for i in range(begin, stop):
            words = visible(tokens[i])
            if i in read.image:
                j, k = divmod(i - read.image[0], read.columns // 2)
                sheet.picture(row["image"], x, y, 24, (k * side, j * side, side, side))
                x += 28
            elif i == asked:
                sheet.box(x, y, WIDTH - 28 - x, 54)
                sheet.text(
                    x + 6, y + 16, "\n".join(textwrap.wrap(tokens[i], 96, break_on_hyphens=False)), size=11, mono=True
                )
                y += 38
            else:
                if x + MONO * 12 * len(words) + 8 > WIDTH - 28:
                    x, y = 152.0, y + 28
                x = sheet.token(x, y, words, IMAGE if i in (start, end) else "pale1" if "<|" in words else WORDS)
        if stop == len(tokens):
            sheet.arrow((x + 4, y + 12), (x + 34, y + 12))
            sheet.text(x + 42, y + 17, "the model writes from here", bold=True)
        y += 40
    sheet.text(
        28,
        630,
        "·  a blank    ↵  a line end    orange: marks of the chat    blue: marks of the image",
        size=12,
        tone="soft",
    )


def formats() -> Sheet:
    """What is written when, in the three formats, and what can have caused what."""
    row, step, left = example.question(), 28, 190
    sheet = Sheet(
        "formats", 500, "Three formats on one time line: what can have caused what",
        "Three rows of tokens as they are written from left to right. Think-before: the thought, then the letter; "
        "an arrow leads from the thought to the letter. No-think: the letter at once. Think-after: the letter, "
        "then the thought; the arrow leads from the letter to the thought.",
    )  # fmt: skip
    sheet.text(
        28,
        64,
        "A model writes one token after another, and each is drawn given all that stand to its left.",
        tone="soft",
    )
    for i, (format, said) in enumerate(
        (
            (mk.THINK_BEFORE, "the letter is drawn given the thought: the thought can have caused it"),
            (mk.NO_THINK, "the letter is drawn given image and question alone"),
            (mk.THINK_AFTER, "the letter is there first: the thought cannot have caused it, it can only follow"),
        )
    ):
        y = 124 + 114 * i
        tokens = example.written(format.write(row["answer"], row["rationale"]))
        letter = tokens.index(row["answer"])
        sheet.text(28, y + 2, format.name, size=15, bold=True)
        sheet.text(28, y + 22, f"the letter is token {letter + 1}\nof {len(tokens)}", size=12, tone="soft")
        sheet.box(left - 38, y - 14, 30, 34, IMAGE)
        sheet.text(left - 23, y + 7, "Q", anchor="middle", bold=True)
        for kind, tone in (("think", "pale1"), ("answer", "pale2")):
            if f"<{kind}>" in tokens:
                begin, stop = tokens.index(f"<{kind}>"), tokens.index(f"</{kind}>")
                sheet.box(left + step * begin, y - 14, step * (stop - begin + 1) - 2, 34, tone)
                sheet.text(
                    left + step * (begin + stop + 1) / 2,
                    y - 21,
                    f"<{kind}>…</{kind}>",
                    size=11,
                    tone="soft",
                    anchor="middle",
                    mono=True,
                )
                if kind == "think":
                    words = "".join(tokens[begin + 1 : stop]).replace(". ", ".\n")
                    sheet.text(left + step * (begin + stop + 1) / 2, y - 1, words, size=12, anchor="middle")
        sheet.text(left + step * (letter + 0.5), y + 8, row["answer"], size=17, bold=True, anchor="middle")
        sheet.box(left + step * (len(tokens) - 1), y - 14, step - 2, 34, "card")
        sheet.text(left + step * (len(tokens) - 0.5) - 1, y + 7, "end", size=11, tone="soft", anchor="middle")
        for place in range(len(tokens)):
            sheet.path(f"M{left + step * (place + 1) - 1} {y + 20}v6")
        if len(tokens) > 4:
            thought = (tokens.index("<think>") + tokens.index("</think>") + 1) / 2
            ends = [left + step * thought, left + step * (letter + 0.5)]
            ends = ends if format is mk.THINK_BEFORE else ends[::-1]
            sheet.arrow((ends[0], y + 30), (ends[0], y + 40), (ends[1], y + 40), (ends[1], y + 29))
        sheet.text(left, y + (60 if len(tokens) > 4 else 46), said, size=13)
    sheet.arrow((left, 458), (left + step * 22, 458))
    sheet.text(left, 478, "tokens, in the order in which they are written; a tick each", size=12, tone="soft")
    sheet.text(28, 462, "Q  image and question", size=12, tone="soft")
    return sheet


def shared_prefix() -> Sheet:
    """A group read row by row, and with its prompt read once."""
    tokens, read = [len(example.written(text)) for text in example.GROUP], example.prompt()
    n, image, words, longest = len(tokens), len(read.image), len(read.tokens) - len(read.image), max(tokens)
    picture = example.question()["image"].resize((56, 56))
    stock = n * (len(read.tokens) + longest)
    shared = len(read.tokens) + sum(tokens)
    sheet = Sheet(
        "shared_prefix", 480, f"What the shared prefix shares: {n} completions of one question",
        f"Left, TRL's own step: {n} rows, each with the image, the prompt and its completion, padded to the "
        f"longest; the image is encoded {n} times and {stock} tokens are computed. Right, the step of this "
        f"toolkit: image and prompt once, and the {n} completions go on from there; the image is encoded once and "
        f"{shared} tokens are computed. The gradients are the same.",
    )  # fmt: skip
    scale, bar = 6.2, 20
    for x, head in ((28, "TRL's own step: a row is read as a whole"), (468, "Shared: the prompt is read once")):
        sheet.text(x, 76, head, size=15, bold=True)
    for i, length in enumerate(tokens):
        y = 94 + 30 * i
        for x, width, tone in ((28, image, IMAGE), (28 + scale * image, words, "pale1")):
            sheet.box(x, y, scale * width - 2, bar, tone, 3)
        sheet.picture(picture, 30, y + 1, 18)
        x = 28 + scale * (image + words)
        sheet.box(x, y, scale * length - 2, bar, RIGHT, 3)
        if length < longest:
            sheet.box(x + scale * length, y, scale * (longest - length) - 2, bar, "card", 3)
            sheet.hatch(x + scale * length, y, scale * (longest - length) - 2, bar)
        x, middle = 468 + scale * (image + words), 94 + 15 * n - 5
        sheet.path(f"M{x} {middle}C{x + 25} {middle} {x + 15} {y + bar / 2} {x + 42} {y + bar / 2}", "rule")
        sheet.box(x + 42, y, scale * length - 2, bar, RIGHT, 3)
    sheet.box(468, middle - bar / 2, scale * image - 2, bar, IMAGE, 3)
    sheet.picture(picture, 470, middle - bar / 2 + 1, 18)
    sheet.box(468 + scale * image, middle - bar / 2, scale * words - 2, bar, "pale1", 3)
    foot = 94 + 30 * n + 22
    for x, times, places in ((28, n, stock), (468, 1, shared)):
        often = f"{times} times" if times > 1 else "once"
        sheet.text(
            x, foot, f"image encoded: {often}\nprompt read: {often}\ntokens computed: {places}", size=14, bold=True
        )
    sheet.text(220, foot, "at every pass: sampling, loss,\nand the reference where there is one", size=12, tone="soft")
    sheet.text(660, foot, "the same sums in another order:\nthe same gradients, to rounding", size=12, tone="soft")
    x = 28.0
    for tone, name in (
        (IMAGE, f"image, {image} tokens"),
        ("pale1", f"words of the prompt, {words}"),
        (RIGHT, f"a completion, {min(tokens)} to {longest}"),
    ):
        sheet.box(x, 434, 18, 14, tone, 3)
        sheet.text(x + 25, 446, name, size=12)
        x += 60 + 7.2 * len(name)
    sheet.box(x, 434, 18, 14, "card", 3)
    sheet.hatch(x, 434, 18, 14)
    sheet.text(x + 25, 446, "padding", size=12)
    return sheet
