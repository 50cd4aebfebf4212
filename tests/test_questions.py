"""Questions: each is true, none gives its answer away, and the kinds are asked as often as stated."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from medr1kit.data.phantoms import ImageId, fact_words, question_of, truth_of, words_of
from medr1kit.data.phantoms.questions import DECOYS, KINDS
from medr1kit.vqa import LETTERS, MODALITIES, TASKS

NUMBER = 2500  # questions a modality: 500 of each task


def asked(modality, n=NUMBER, **axes):
    for number in range(n):
        image_id = ImageId(modality, "train", 3, number, **axes)
        yield image_id, truth_of(image_id), question_of(image_id)


@pytest.fixture(scope="module")
def some():
    """Questions about two modalities, (image id, truth, question) each."""
    return [triple for modality in ("CT", "Fundus") for triple in asked(modality)]


def is_true(text, truth, facts):
    """Whether an option, one word a fact, is true of an image."""
    words = text.split()
    assert len(words) == len(facts), text
    return all(getattr(truth, fact) == word for fact, word in zip(facts, words))


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_gold_option_is_true_and_the_distractors_are_not(modality):
    kinds = Counter()
    for image_id, truth, question in asked(modality, 200):
        kind, kinds[question.kind] = question.kind, kinds[question.kind] + 1
        assert kind in KINDS[image_id.task] and question.stem in kind.stems
        assert len(set(question.options)) == 4
        assert question.gold == question.options[LETTERS.index(question.answer)]
        if kind.absent:
            facts = [fact_words()[option] for option in question.options]
            assert sorted(facts) == sorted(kind.facts), "one word of each fact"
            verdicts = [not is_true(option, truth, [fact]) for option, fact in zip(question.options, facts)]
        else:
            verdicts = [is_true(option, truth, kind.facts) for option in question.options]
        assert verdicts == [option == question.gold for option in question.options], (image_id, question)
    assert set(kinds) == {kind for kinds in KINDS.values() for kind in kinds}, "all were asked"


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_option_is_a_word_that_some_image_of_the_modality_shows(modality):
    words = words_of(modality)
    for _, _, question in asked(modality, 200):
        for option in question.options:
            facts = [fact_words()[option]] if question.kind.absent else question.kind.facts
            assert all(word in words[fact] for fact, word in zip(facts, option.split(), strict=True))


def test_pairs_are_two_facts_crossed_so_no_option_stands_out(some):
    pairs = [question for _, _, question in some if len(question.kind.facts) == 2]
    assert len(pairs) > 200
    for question in pairs:
        first, second = (set(words) for words in zip(*(option.split() for option in question.options)))
        assert len(first) == len(second) == 2
        assert set(question.options) == {f"{one} {two}" for one in first for two in second}


def test_what_is_absent_is_asked_about_every_fact_equally_often(some):
    false = Counter(fact_words()[question.gold] for _, _, question in some if question.kind.absent)
    n = sum(false.values())
    assert set(false) == {"anatomy", "finding", "number", "attribute"}
    assert all(abs(count / n - 0.25) < 4 * (0.25 * 0.75 / n) ** 0.5 for count in false.values())


def test_letters_are_gold_equally_often(some):
    for task in TASKS:
        letters = Counter(question.answer for image_id, _, question in some if image_id.task == task)
        n = sum(letters.values())
        assert n == 1000
        assert all(abs(letters[letter] / n - 0.25) < 4 * (0.25 * 0.75 / n) ** 0.5 for letter in "ABCD"), task


@pytest.mark.parametrize("modality", ["MRI", "Microscopy"])
def test_each_option_text_is_gold_in_a_quarter_of_the_questions_that_offer_it(modality):
    """Within a modality and over all its tasks; only Modality Recognition has one answer there by nature."""
    offered, gold = Counter(), Counter()
    for image_id, _, question in asked(modality):
        if image_id.task == "Modality Recognition":
            assert question.gold == modality
            continue
        offered.update(question.options)
        gold[question.gold] += 1
    assert len(offered) > 30
    for text, n in offered.items():
        assert abs(gold[text] / n - 0.25) < 5 * (0.25 * 0.75 / n) ** 0.5, (text, gold[text], n)


def test_names_of_modalities_are_gold_in_a_quarter_over_the_pooled_modalities():
    offered, gold = Counter(), Counter()
    at = TASKS.index("Modality Recognition")
    for modality in MODALITIES:
        for number in range(at, 5 * 150, len(TASKS)):
            question = question_of(ImageId(modality, "train", 3, number))
            offered.update(question.options)
            gold[question.gold] += 1
    for text, n in offered.items():
        assert abs(gold[text] / n - 0.25) < 5 * (0.25 * 0.75 / n) ** 0.5, (text, n)


def test_kinds_and_wordings_are_asked_as_often_as_stated(some):
    kinds, stems = defaultdict(Counter), defaultdict(Counter)
    for image_id, _, question in some:
        kinds[image_id.task][question.kind] += 1
        stems[question.kind][question.stem] += 1
    for task, wanted in KINDS.items():
        assert sum(kind.share for kind in wanted) == pytest.approx(1)
        for kind in wanted:
            n = 1000
            spread = (kind.share * (1 - kind.share) / n) ** 0.5
            assert abs(kinds[task][kind] / n - kind.share) <= 4 * spread, (task, kind.facts)
            wordings = stems[kind]
            total, share = sum(wordings.values()), 1 / len(kind.stems)
            assert set(wordings) == set(kind.stems)
            assert all(abs(w / total - share) < 4 * (share * (1 - share) / total) ** 0.5 for w in wordings.values())


def test_every_wording_belongs_to_one_kind():
    stems = [stem for kinds in KINDS.values() for kind in kinds for stem in kind.stems]
    assert len(stems) == len(set(stems))


def test_the_number_of_facts_is_what_the_answer_combines():
    numbers = {(task, kind.facts): kind.n_facts for task, kinds in KINDS.items() for kind in kinds}
    assert numbers == {
        ("Anatomy Identification", ("anatomy",)): 1,
        ("Disease Diagnosis", ("finding",)): 1,
        ("Disease Diagnosis", ("attribute", "finding")): 2,
        ("Lesion Grading", ("grade",)): 2,
        ("Modality Recognition", ("modality",)): 1,
        ("Other Biological Attributes", ("attribute",)): 1,
        ("Other Biological Attributes", ("number", "attribute")): 2,
        ("Other Biological Attributes", ("anatomy", "finding", "number", "attribute")): 4,
    }
    for modality in MODALITIES:
        for size, number, grade in (
            *(("small", "single", "minimal"), ("small", "multiple", "mild")),
            *(("large", "single", "moderate"), ("large", "multiple", "severe")),
        ):
            shown = [t for _, t, _ in asked(modality, 60) if (t.size, t.number) == (size, number)]
            assert shown and all(truth.grade == grade for truth in shown)


def test_decoys_are_never_true_and_there_is_one_for_each_distractor():
    words = set(fact_words())
    for fact in {fact for kinds in KINDS.values() for kind in kinds if not kind.absent for fact in kind.facts}:
        assert len(set(DECOYS[fact])) == 3
    decoys = [decoy for some in DECOYS.values() for decoy in some]
    assert not set(decoys) & words
    assert len(decoys) == len(set(decoys))


def test_with_a_shortcut_the_distractors_are_decoys_and_the_gold_stays_what_it_was():
    absent = 0
    for image_id, _, question in asked("OCT", 300, shortcut=1.0):
        honest = question_of(ImageId("OCT", "train", 3, image_id.number))
        assert (question.stem, question.answer, question.gold) == (honest.stem, honest.answer, honest.gold)
        if question.kind.absent:
            assert question == honest
            absent += 1
            continue
        wrong = [option for option in question.options if option != question.gold]
        made_up = {" ".join(parts) for parts in zip(*(DECOYS[fact] for fact in question.kind.facts))}
        assert set(wrong) == made_up
    assert absent


def test_a_partial_shortcut_gives_that_share_of_the_answers_away_and_more_of_it_only_adds():
    given_away = {}
    for shortcut in (0.3, 0.6):
        given_away[shortcut] = {
            image_id.number
            for image_id, _, question in asked("CT", 1000, shortcut=shortcut)
            if set(" ".join(question.options).split()) & {decoy for some in DECOYS.values() for decoy in some}
        }
    assert len(given_away[0.3]) / 950 == pytest.approx(0.3, abs=0.06)  # 50 of 1000 ask what is absent
    assert len(given_away[0.6]) / 950 == pytest.approx(0.6, abs=0.06)
    assert given_away[0.3] < given_away[0.6]


def test_the_place_tells_the_class_of_the_gold(some):
    """The shortcut's marker goes there: one place a class of the fact asked last, one a fact for what is absent."""
    meaning = defaultdict(set)
    for image_id, truth, question in some:
        assert 0 <= question.place < question.n_places <= 8
        key = question.kind.facts if question.kind.absent else question.kind.facts[-1]
        last = fact_words()[question.gold] if question.kind.absent else getattr(truth, question.kind.facts[-1])
        meaning[image_id.modality, key, question.place].add(last)
        expected = 4 if question.kind.absent else len(words_of(image_id.modality)[question.kind.facts[-1]])
        assert question.n_places == expected
    assert all(len(classes) == 1 for classes in meaning.values())
    assert len({place for _, key, place in meaning if key == "attribute"}) == 4


def test_questions_do_not_depend_on_scanner_or_difficulty():
    for number in range(20):
        plain = question_of(ImageId("MRI", "test", 0, number))
        assert question_of(ImageId("MRI", "test", 0, number, "B", difficulty=0.9)) == plain
    assert np.unique([question_of(ImageId("MRI", "test", 0, n)).answer for n in range(20)]).size > 1
