"""What a prompt leaves in the text of a question: taken off, or refused; real questions keep their words."""

import pytest

from medr1kit.data.load import load_vqa
from medr1kit.leftovers import control_token, cut_tail, told_answer, without_place
from medr1kit.vqa import DataError, fold


@pytest.mark.parametrize(
    "tail",
    [
        " Explain your reasoning.",
        " Only one answer is correct.",
        " Letter only.",
        " Just the letter, please.",
        " (choose one)",
        " Which is correct?",
        " Return JSON.",
        "\nOutput only A or B.",
        " Ans. B",
        " Wählen Sie eine Antwort.",
        "\nBitte nur den Buchstaben angeben.",
        "\nRépondez par la lettre de la bonne réponse.",
        "\n请直接回答选项字母。",
        "\nAnswer with the option's letter from the given choices directly.",
    ],
)
def test_an_instruction_behind_the_last_option_is_cut_in_any_of_these_words(tail):
    assert cut_tail(["liver", "lung" + tail]) == ("lung", "")


@pytest.mark.parametrize("tail", ["(B)", "[B]", "Lösung: B", "Ergebnis = B"])
def test_a_letter_behind_the_last_option_is_told(tail):
    assert cut_tail(["liver", f"lung {tail}"])[1] == tail


@pytest.mark.parametrize(
    "options", [["influenza (A)", "hepatitis (B)"], ["Stain (H&E)", "Stain (PAS)"], ["x", "the answer"]]
)
def test_options_that_look_alike_keep_their_words(options):
    assert cut_tail(options) == (options[-1], "")


@pytest.mark.parametrize(
    "token",
    [
        *("<|im_end|>", "<|vision_start|>", "<|eot_id|>", "<start_of_image>", "[INST]", "[/INST]", "<bos>", "</s>"),
        *("<image>", "<img>", "<IMG_CONTEXT>", "<image_soft_token>", "<unused12>", "<tool_call>", "[IMG]", "[SEP]"),
        *("<mask>", "<think>", "<Answer>", "<thinking>", "<\uff5cUser\uff5c>"),
    ],
)
def test_what_a_tokenizer_takes_for_more_than_words_is_found_and_refused_with_its_row(token):
    assert control_token(f"Which organ {token} is it?") == token
    with pytest.raises(DataError, match="row 0: a control token of chat models"):
        load_vqa([{"question": f"Which organ {token} is it?", "options": ["liver", "lung"], "answer": "B"}])


@pytest.mark.parametrize("text", ["p<0.05 and x>3", "A<B>C", "<2 cm>", "[1] Which?", "<b>Which</b> organ?", "(A) [B]"])
def test_what_medicine_writes_with_the_same_marks_is_no_token(text):
    assert control_token(text) is None


@pytest.mark.parametrize(
    "text", ["<image>\nWhich?", "<image 1> Which?", "Which?\n<image>", "<image>\n<image>Which?", "Which?"]
)
def test_the_place_of_the_image_is_taken_off_at_both_ends(text):
    assert without_place(text) == "Which?"
    ds = load_vqa([{"question": text, "options": ["liver", "lung"], "answer": "B"}])
    assert list(ds["problem"]) == ["Which? A)liver, B)lung"]


def test_the_place_of_a_second_image_is_refused():
    with pytest.raises(DataError, match="'<image 2>'"):
        load_vqa([{"question": "<image 1> and <image 2>?", "options": ["same", "other"], "answer": "A"}])


@pytest.mark.parametrize(
    "question", ["Which? Answer: B", "Which?\nAntwort: B", "Which? Lösung: lung", "Which?\nThe correct answer is lung."]
)
def test_a_question_that_tells_its_answer_is_refused(question):
    with pytest.raises(DataError, match="tells an answer"):
        load_vqa([{"question": question, "options": ["liver", "lung"], "answer": "B"}])


@pytest.mark.parametrize(
    "question", ["Which answer is correct?", "Which?\nAnswer:", "What is the correct grade: G1 or G2?"]
)
def test_a_question_that_speaks_of_answers_tells_none(question):
    assert told_answer(question, ["liver", "lung"], fold) is None
