"""Options: where a text says their words."""

import time

import pytest

from medr1kit.choices import option_mentions


@pytest.mark.parametrize(
    ("text", "options", "found"),
    [
        ("left cyst, left mass", ["right cyst", "left mass", "left cyst"], ["C", "B"]),
        ("The LEFT lung, no: the lung.", ["lung", "left lung"], ["B", "A"]),
        ("left lung mass", ["left lung", "lung mass", "lung"], ["A", "B"]),  # two that cross are both said
        ("cystic, cysts, pancyst", ["cyst"], []),
        ("CT or OCT", {"C": "CT", "D": None, "E": ""}, ["C"]),
        ("SPECT (H&E)", ["spect.", "SPECT", "(H&E)"], ["AB", "C"]),
        ("", ["cyst"], []),
    ],
)
def test_the_options_a_text_names_are_found_by_their_longest_words(text, options, found):
    assert [mention.letters for mention in option_mentions(text, options)] == found


def test_a_mention_says_where_it_stands():
    text = "No mass but a left cyst."
    mentions = option_mentions(text, ["cyst", "mass", "left cyst"])
    assert [text[mention.start : mention.end] for mention in mentions] == ["mass", "left cyst"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("An X\u2011ray of Sjo\u0308gren's.", ["X\u2011ray", "Sjo\u0308gren's"]),
        ("Sj\xf6gren\u2019s, by\u00a0x\u00adray or X-ray", ["Sj\xf6gren\u2019s", "X-ray"]),
        ("a left\u00a0 lung of 10\u2075 cells", ["left\u00a0 lung", "10\u2075"]),
        ("\uff38\uff0dray \ufb01broma", ["\uff38\uff0dray", "\ufb01broma"]),
    ],
)
def test_a_mention_is_found_in_another_spelling_and_shown_as_it_stands(text, said):
    mentions = option_mentions(text, ["X-ray", "Sj\xf6gren's", "left lung", "10\u2075", "fibroma", "105"])
    assert [text[mention.start : mention.end] for mention in mentions] == said


def test_a_hundred_thousand_mentions_are_found_in_a_second():
    began = time.process_time()
    assert len(option_mentions("left cyst " * 50_000, ["left cyst", "cyst", "left", "left mass"])) == 50_000
    assert time.process_time() - began < 1
