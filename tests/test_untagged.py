"""Letters without tags: where a capital stands as an answer, and where it is a name, a denial or a question."""

import random

import pytest
from growth import grows_as_its_length

from medr1kit.formats import NO_THINK
from medr1kit.vqa import LETTERS

OPTIONS = ["mass", "cyst", "stone", "No abnormality"]


def lenient(text, options=OPTIONS):
    return NO_THINK.parse(text, options).lenient_answer


@pytest.mark.parametrize(
    "text",
    [
        *("The answer is C.", "The answer is (C).", "Answer: C", "ANSWER: C", "The correct answer is **C**.", "So C."),
        *("The answer is most likely C", "The answer would be option C.", "Option C", "I would choose C", "It is C"),
        *("C", "(C)", "(c)", "C.", "c)", "**C**", "$C$", r"The answer is $\boxed{\text{C}}$.", "Final answer:\n\nC"),
        *("C) stone", "C: stone", "The answer is C) stone.", "Answer: **C. stone**", "The finding is a stone (C)."),
        *("C because it is bright", "C is the best choice", "C, as it is bright", "A mass is seen, hence C."),
        *("A and B are wrong, so it is C.", "It is C, not A.", "C rather than A", "Not A but C", "not A. C"),
        *("It can't be A, B, or D, so it must be C.", "Neither A nor B: it shows a ring; therefore C."),
        *("There is no mass, so the answer is C.", "There is no mass and the answer is C.", "No, the answer is C."),
        *("Hepatitis B is likely, the answer is C.", "Vitamin B lack is seen. Answer: C", "At 37 °B the answer is C"),
        *(
            "Die Antwort ist C.",
            "La réponse est C.",
            "La respuesta es C",
            "答案是C",
            "C选项",
            "It looks like C",
            "The answer is C (not B)",
            "答案：Ｃ",
            "选C",
            "选项C正确",
        ),
        *("Is it A? No. The answer is C.", "If it were dark, it would be A. The answer is C."),
    ],
)
def test_a_letter_that_stands_as_an_answer_is_read(text):
    assert lenient(text) == "C"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "C, no wait, B",
            "C. No wait, B.",
            "C... no, B",
            "The answer is C, no wait, B",
            "C, sorry, B",
            "C, or rather B",
        ),
        *("The answer is C. Wait, it is B.", "I'd say C. On second thought, B.", "The answer is C. Correction: B"),
        *("C, I mean B", "The answer is C. Actually, the answer is A.", "Answer: C (no, B)", "答案是C，不对，是B"),
        *("The answer is C. Actually, A.", "Die Antwort ist C. Nein, B."),
    ],
)
def test_an_answer_that_is_taken_back_is_none(text):
    assert lenient(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *("The answer is C. Wait, yes, C.", "C. Sorry, I mean C.", "The answer is C. Actually, B is wrong."),
        *("The answer is C. Wait, let me check A. A is wrong. So C.", "A? No, C.", "The answer is C, no doubt"),
        *(
            "The answer is C. Actually, A mass would be larger.",
            "The answer is C. There is no B line.",
            "C. No.",
            "It is C, no A.",
        ),
        *("I first thought B, but it is C.", "Actually, the answer is C, not B."),
    ],
)
def test_a_second_look_that_changes_nothing_leaves_the_answer(text):
    assert lenient(text) == "C"


@pytest.mark.parametrize(
    "text",
    [
        *("The answer is not C.", "It cannot be C", "It can't be C.", "It can’t be C.", "isn't C", "Certainly not C."),
        *(
            "not C",
            "Not option C",
            "no C",
            "It is never C.",
            "rather than C",
            "instead of C",
            "Anything but C",
            "all but C",
        ),
        *(
            "C is wrong",
            "C is incorrect.",
            "Option C is wrong.",
            "C cannot be right",
            "C is not the answer",
            "C is unlikely",
        ),
        *(
            "C can be excluded",
            "(C) is false",
            "I exclude C",
            "We can rule out C.",
            "The answer is unlikely C",
            "without C",
        ),
        *(
            "Neither C nor D",
            "everything except C",
            "other than C",
            "I doubt that it is C",
            "If it were C",
            "I reject C.",
        ),
        *(
            "Is the answer C?",
            "Could it be C?",
            "whether it is C",
            "The answer is neither C",
            "The answer is anything but C",
        ),
        *(
            "Nicht C",
            "Die Antwort ist nicht C.",
            "Es ist nicht C",
            "kein C",
            "Ce n'est pas C.",
            "La réponse n'est pas C",
        ),
        *("No es C", "Non è C", "不是C", "答案不是C", "排除C", "(C) excluded", "any but C", "Ikke C", "C ist falsch"),
    ],
)
def test_a_denied_letter_is_no_answer(text):
    assert lenient(text) is None


@pytest.mark.parametrize(
    "text",
    [
        *(
            "The patient lacks vitamin C.",
            "vitamin C",
            "Vitamin C deficiency",
            "hepatitis B",
            "Chronic hepatitis B is seen.",
        ),
        *(
            "type A",
            "A type B dissection",
            "blood group B",
            "The blood type is A.",
            "Grade: C",
            "stage B disease",
            "grade C",
        ),
        *("B-cell lymphoma", "B cells are seen", "A C-shaped loop", "37 °C", "37 C", "protein C", "p-ANCA and C-ANCA"),
        *(
            "Child-Pugh C",
            "see figure B",
            "the arrow A points up",
            "the lesion marked C",
            "D-dimer",
            "C. elegans",
            "C. difficile",
        ),
        *(
            "U.S.A. study",
            "A mass is seen",
            "a patient",
            "Factor C",
            "influenza A",
            "Müller C",
            "the B line",
            "维生素C缺乏",
            "C反应蛋白",
            "C型肝炎",
        ),
        *("A mass and a stone", "vitamins A, C and D"),
    ],
)
def test_a_letter_that_is_part_of_a_name_is_no_answer(text):
    assert lenient(text, ["w", "x", "y", "z"]) is None


@pytest.mark.parametrize(
    "text", ["A or B", "A, B", "A, C and D", "A and B.", "The answer is A or B", "B/C", "A\nB", "A B"]
)
def test_several_letters_are_none(text):
    assert lenient(text) is None


def test_the_words_of_an_option_deny_nothing():
    assert lenient("The answer is D) No abnormality.") == lenient("The answer is D. no abnormality") == "D"
    assert lenient("Answer: B) No.", ["Yes", "No"]) == "B"
    assert lenient("It is no abnormality (D).") == "D"
    assert lenient("Not D) No abnormality.") is None


def test_what_is_called_the_answer_goes_before_other_letters():
    assert lenient("A: dark. B: bright. The answer is C.") == "C"
    assert lenient("The answer is C, or the answer is B") is None


def test_letters_beyond_the_options_are_not_read():
    assert lenient("The answer is C.", ["mass", "cyst"]) is None
    assert lenient("I think so.", ["x"] * 12) is None  # the pronoun, where there is an option I
    assert lenient("The answer is I.", ["x"] * 12) == "I"


WORDS = [
    "C",
    "A",
    "not",
    "the answer is",
    "vitamin",
    "(C)",
    "C)",
    ",",
    ".",
    "?",
    "\n",
    "but",
    "rather than",
    "stone",
    "is",
]


def test_no_text_breaks_the_reading_and_a_denial_before_takes_every_letter():
    rng, found = random.Random(1), 0
    for _ in range(5_000):
        text = " ".join(rng.choices(WORDS, k=rng.randrange(1, 9)))
        letter = lenient(text)
        assert letter is None or letter in LETTERS[:4]
        found += letter is not None
        words = [word for word in text.split() if word not in (",", ".", "?", "but", "rather", "than")]
        assert NO_THINK.parse("It is not " + " ".join(words), OPTIONS).lenient_answer is None, text
    assert found > 500


@pytest.mark.parametrize(
    "piece",
    [
        "The answer is not C. ",
        "vitamin C ",
        "A C ",
        "(",
        "C is ",
        "C, ",
        "not A\n",
        "the C\u00e9 ",
        "option C ",
        "C * ",
    ],
)
def test_a_long_text_is_read_in_the_time_of_its_length(piece):
    assert grows_as_its_length(lenient, piece, 200_000)


@pytest.mark.parametrize(
    "text",
    [
        *("C seems implausible.", "C fails to explain the shadow", "C lacks support", "C contradicts the findings"),
        *(
            "C is refuted",
            "C can safely be ignored",
            "C is contraindicated",
            "My second choice is C",
            "C is improbable",
        ),
        *("C是错误的", "C项不正确", "C可以排除", "C不对"),
    ],
)
def test_a_letter_that_is_ruled_out_in_other_words_is_not_read(text):
    assert lenient(text) is None


def test_a_letter_that_is_right_beside_one_that_is_not_is_read():
    assert lenient("B is right, C fails to explain the shadow") == "B"
    assert lenient("正确答案为B，C不对") == "B"
