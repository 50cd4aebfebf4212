"""Escaping and layout: whatever a text holds, it stays text."""

import re

import pytest
from widget_fakes import HOSTILE, check_safe

from medr1kit.views import html


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_stays_text(name):
    seen = check_safe(html.page(html.escape(HOSTILE[name]) + html.badge(HOSTILE[name], "bad")))
    assert "script" not in seen.elements
    assert set(seen.elements) <= {"style", "div", "details", "summary", "em", "span"}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_stays_in_its_attribute(name):
    seen = check_safe(f'<div title="{html.attribute(HOSTILE[name])}">x</div>')
    assert [(tag, key) for tag, key, _ in seen.attributes] == [("div", "title")]


def test_what_acts_unseen_is_written_out():
    assert html.visible("\0\x1b\r\x7f") == "[U+0000][U+001B][U+000D][U+007F]"
    assert html.visible("\u202e\u2066\u200b\ufeff\ud800") == "[U+202E][U+2066][U+200B][U+FEFF][U+D800]"
    assert html.visible("tab\tline\nאב مرحبا 🩻 é") == "tab\tline\nאב مرحبا 🩻 é"


def test_a_short_text_is_shown_whole_and_exactly():
    text = "a < b & c > d \"e\" 'f'"
    assert check_safe(f"<p>{html.escape(text)}</p>").all == text
    assert html.escape("x" * html.LIMIT) == "x" * html.LIMIT


def test_a_megabyte_is_cut_with_a_count_and_more_on_demand():
    shown = html.escape("x" * 1_000_000)
    seen = check_safe(shown)
    assert len(shown) < html.LIMIT + html.MORE + 500
    assert "996,000 more characters (of 1,000,000)" in seen.all
    assert f"{1_000_000 - html.LIMIT - html.MORE:,} more, not shown here" in seen.all
    assert "not shown here" not in html.escape("x" * 5000)
    assert html.escape("x" * 5000).count("x") == 5000


def test_a_cut_through_an_entity_or_a_tag_leaves_both_parts_text():
    assert check_safe(html.escape("<script>", limit=4)).texts["more"] == ["… 4 more characters (of 8)ipt>"]


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_what_is_missing_is_a_dash(nothing):
    assert html.escape(nothing) == "–"


def test_marks_lie_where_they_should_and_never_nest():
    wrap = lambda inner: f"<b>{inner}</b>"  # noqa: E731
    assert html.marked("a<b>c", [(0, 2, wrap), (1, 3, wrap), (4, 5, wrap)]) == "<b>a&lt;</b>b&gt;<b>c</b>"
    assert html.marked("abcdef", [(2, 5, wrap)], limit=4).startswith("abcd<details"), "beyond the cut"
    assert html.marked("\0\0x", [(2, 3, wrap)]) == "[U+0000][U+0000]<b>x</b>"


def test_tables_escape_headings_and_take_cells_as_html():
    seen = check_safe(html.table([["<b>1</b>", html.escape("<i>")]], ["<u>", "y"], hook="t"))
    assert seen.texts["t"] == ["<u>y1<i>"]
    assert seen.elements.count("td") == 2 and "b" in seen.elements and "i" not in seen.elements


def test_cells_stand_side_by_side():
    assert check_safe(html.side_by_side(["<p>1</p>", "<p>2</p>"])).elements == ["div", "div", "p", "div", "p"]


def test_the_style_touches_nothing_but_our_own():
    rules = re.sub(r"@media[^{]*\{(.*?\})\}", r"\1", html.STYLE)
    rules = re.sub(r"@keyframes mk-\w+\{\w+\{[^}]*\}\}", "", rules)  # they do nothing but where our own rules name them
    selectors = [one for rule in re.findall(r"([^{}]+)\{", rules) for one in rule.split(",")]
    assert len(selectors) > 20
    assert all(
        re.search(r"(^|\s)\.mk(-panel\.jupyter-widgets|-zoom(::backdrop)?)?(\s|$)", selector.strip())
        for selector in selectors
    ), selectors
    assert html.STYLE.count("{") == html.STYLE.count("}")
    assert "url(" not in html.STYLE and "<" not in html.STYLE


def contrast(one, other):
    """WCAG 2 contrast ratio of two colours "#rrggbb"."""

    def light(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


THEMES = re.findall(r"\{(?:color-scheme:\w+;)?((?:--mk-own-[^;}]*;?)+)\}", html.STYLE)
LIGHT, DARK = THEMES[:2]


def test_jupyterlab_s_themes_have_the_colours_of_the_reader_s_preference():
    assert THEMES == [LIGHT, DARK, LIGHT, DARK] and LIGHT != DARK


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_every_ink_can_be_read_on_every_ground(theme):
    colours = dict(part.removeprefix("--mk-own-").split(":") for part in theme.split(";"))
    for ink in ("fg", "soft", "ok", "no", "hm"):
        for ground in ("bg", "tint"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("way", ["ok", "no"])
def test_a_text_can_be_read_on_the_strongest_ground_of_its_advantage(theme, way):
    colours = dict(part.removeprefix("--mk-own-").split(":") for part in theme.split(";"))
    parts = [[int(colours[name][i : i + 2], 16) for i in (1, 3, 5)] for name in (way, "tint")]
    mixed = "".join(f"{round(0.45 * push + 0.55 * ground):02x}" for push, ground in zip(*parts))
    assert contrast(colours["fg"], f"#{mixed}") >= 4.5


@pytest.mark.parametrize(("theme", "ground"), [(LIGHT, "#ffffff"), (DARK, "#111111")])
def test_every_ink_can_be_read_on_the_grounds_of_jupyterlab(theme, ground):
    colours = dict(part.removeprefix("--mk-own-").split(":") for part in theme.split(";"))
    assert all(contrast(colours[ink], ground) >= 4.5 for ink in ("soft", "ok", "no", "hm"))


def test_badges_keep_apart_without_a_style():
    seen = check_safe(html.badges([html.badge("one"), html.badge("two")]))
    assert seen.all == "one, two" and ".mk-sep{display:none}" in html.STYLE


def test_in_a_table_words_break_only_where_they_are_longer_than_a_line():
    rules = dict(re.findall(r"([^{}]+)\{([^{}]*)\}", html.STYLE))
    cells = rules[".mk .mk-table th,.mk .mk-table td"]
    assert "overflow-wrap:break-word" in cells and "anywhere" not in cells
    assert "min-width" in rules[".mk .mk-table .mk-text"], "anywhere needs a least width"
