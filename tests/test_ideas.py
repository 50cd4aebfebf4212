"""The pictures of ideas: as drawn anew, small, told to those who cannot see them, and with nothing on top of words."""

import base64
import re
from io import BytesIO
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from trl import GRPOConfig

from medr1kit.training.recording import advantages
from medr1kit.views.plots.canvas import text_width
from scripts.draw_ideas import example
from scripts.draw_ideas.__main__ import HERE, PICTURES
from scripts.draw_ideas.sheet import MONO, WIDTH
from scripts.draw_ideas.training import advantages_of, pay_of, remark

DOCS = Path(__file__).parent.parent / "docs"
_STORED = re.compile(r"(?<=data:image/png;base64,)[^\"]*")
_SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module", params=PICTURES)
def kept(request):
    """The name and the text of a committed picture."""
    return request.param, (HERE / f"{request.param}.svg").read_text(encoding="utf-8")


def pixels(stored):
    with Image.open(BytesIO(base64.b64decode(stored))) as image:
        return np.asarray(image.convert("L"), dtype=float)


def test_a_picture_is_what_is_drawn_today(kept):
    name, text = kept
    drawn = PICTURES[name]().svg()
    again = f"docs/pictures/ideas/{name}.svg is not what is drawn today; run python -m scripts.draw_ideas"
    if _STORED.sub("", drawn) != _STORED.sub("", text):
        pytest.fail(again)  # without both texts
    for new, old in zip(_STORED.findall(drawn), _STORED.findall(text), strict=True):
        new, old = (
            pixels(new),
            pixels(old),
        )  # another Pillow packs otherwise, and single pixels differ on other machines
        assert new.shape == old.shape and abs(new - old).mean() < 3, again


def test_no_other_picture_lies_there():
    assert {path.name for path in HERE.iterdir()} == {f"{name}.svg" for name in PICTURES}


def test_a_picture_is_small_has_a_text_for_those_who_cannot_see_it_and_a_night_side(kept):
    name, text = kept
    root = ElementTree.fromstring(text)
    assert len(text.encode()) < 150_000 and "http" not in text.replace(_SVG.strip("{}"), "")
    told = [root.find(f"{_SVG}{tag}") for tag in ("title", "desc")]
    assert root.get("role") == "img" and root.get("aria-labelledby").split() == [part.get("id") for part in told]
    assert len(told[0].text) > 20 and len(told[1].text) > 100
    day, night = text.split("<style>")[1].split("@media (prefers-color-scheme:dark)")
    for side in (day, night):
        colours = dict(re.findall(rf"#{name} \.(\w+){{fill:(#\w+)", side))
        assert contrast(colours["ink"], colours["card"]) > 7 and contrast(colours["soft"], colours["card"]) > 4.5
        assert contrast(colours["ink"], colours["box"]) > 7


def contrast(one, other):
    """The contrast of two colours, "#rrggbb"; source: WCAG 2.2."""
    light = []
    for colour in (one, other):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        light.append(0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2])
    return (max(light) + 0.05) / (min(light) + 0.05)


def test_no_word_leaves_the_picture_or_lies_on_another(kept):
    name, text = kept
    root = ElementTree.fromstring(text)
    words = []
    for one in root.iter(f"{_SVG}text"):
        size, x, y = (float(one.get(key)) for key in ("font-size", "x", "y"))
        assert size >= 10
        mono = "mono" in one.get("class").split()  # Matplotlib's own font is a wide one
        width = MONO * size * len(one.text) if mono else text_width([one.text], size)
        left = x - width * {"start": 0, "middle": 0.5, "end": 1}[one.get("text-anchor", "start")]
        words.append((left, y - 0.7 * size, left + width, y + 0.1 * size, one.text))
        assert left >= 20 and left + width <= WIDTH - 10 and y < float(root.get("height")) - 8, one.text
    for one, other in combinations(words, 2):
        apart = one[0] >= other[2] or other[0] >= one[2] or one[1] >= other[3] or other[1] >= one[3]
        assert apart, (name, one[4], other[4])


def test_the_prompt_s_tokens_are_all_there():
    read = example.prompt()
    kept = (HERE / "prompt.svg").read_text(encoding="utf-8")
    assert len(read.image) == read.rows * read.columns // 4 == 16
    for token in {*read.tokens[: read.image[0]], *read.tokens[read.image[-1] + 1 :]} - {"\n"}:
        assert token.replace("<", "&lt;").replace(">", "&gt;").replace(" ", "·")[:20] in kept.replace(" ", "·"), token


def test_the_group_is_paid_by_the_rewards_and_its_advantages_are_those_of_training():
    paid = pay_of(example.GROUP)
    assert paid == [(1, 1), (1, 1), (0, 1), (0, 1), (0, 1), (1, 0), (0, 0), (0, 0)]
    assert remark(example.GROUP[1]) == "right letter, false thought"
    ours = advantages_of([sum(one) for one in paid])
    assert ours[0] == pytest.approx(1 / (4 / 7) ** 0.5, abs=1e-3)
    args = GRPOConfig(output_dir="unused", use_cpu=True, bf16=False, num_generations=8, report_to="none")
    assert ours == pytest.approx(advantages(torch.tensor(paid), args), abs=1e-6)


def test_every_picture_is_shown_on_a_page_with_a_text():
    shown = {}
    for page in DOCS.glob("*.md"):
        for about, name in re.findall(r"!\[([^\]]*)\]\(pictures/ideas/(\w+)\.svg\)", page.read_text(encoding="utf-8")):
            shown[name] = about
    assert set(shown) == set(PICTURES) and all(len(about) > 40 for about in shown.values())
