"""Checkpoints of one training: asked one after the other, told apart, never averaged."""

import shutil

import pandas as pd
import pytest

import medr1kit as mk
from medr1kit.__main__ import main
from medr1kit.models import checkpoints as module
from medr1kit.models import load as models
from medr1kit.models.checkpoints import checkpoints_of
from medr1kit.views.page.scores import scores_section
from medr1kit.vqa import DataError

ASKING = {"format": "no-think", "max_new_tokens": 16}
SAVED = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "per_device_train_batch_size": 8, "seed": 3}


@pytest.fixture(scope="module")
def rows(val_phantoms):
    return val_phantoms.select(range(12))


def train(folder, data, **settings):
    return mk.train_sft(*mk.load_model(), data, format="no-think", output_dir=folder, **SAVED | settings)


@pytest.fixture(scope="module")
def run(tmp_path_factory, one_thread):
    data = mk.load_vqa("phantoms", split="train", modality="CT", n=16, scanner="B")
    return train(tmp_path_factory.mktemp("r") / "run", data, learning_rate=0.02)


@pytest.fixture(scope="module")
def asked(run, rows):
    return mk.predict_checkpoints(run, rows, **ASKING)


# ---- asked -----------------------------------------------------------------------------------------------------------


def lend(checkpoint, folder):
    """A checkpoint as others save it: without the record of our own that tells what it is."""
    shutil.copytree(checkpoint, folder)
    (folder / "run.json").unlink()


def test_each_answers_as_if_it_were_loaded_alone_and_the_base_is_loaded_once(run, rows, asked, monkeypatch):
    alone = [mk.predict(*mk.load_model(run.path / f"checkpoint-{step}"), rows, **ASKING) for step in (2, 4)]
    pd.testing.assert_frame_equal(asked, pd.concat(alone, ignore_index=True))
    assert alone[0]["text"].tolist() != alone[1]["text"].tolist()
    assert asked.groupby("step").size().to_dict() == {2: 12, 4: 12}
    assert asked[["model", "method", "seed", "train_modality"]].drop_duplicates().values.tolist() == [
        ["tiny", "sft", 3, "CT"]
    ]
    loaded, load_base = [], models.load_base
    monkeypatch.setattr(models, "load_base", lambda *how: loaded.append(how) or load_base(*how))
    pd.testing.assert_frame_equal(mk.predict_checkpoints(str(run.path), rows, steps=[4, 2], **ASKING), asked)
    assert len(loaded) == 1


@pytest.mark.parametrize("settings", [{"lora": {"tower": True}}, {"lora": False, "learning_rate": 1e-3}])
def test_a_trained_tower_and_all_weights_are_changed_too(rows, tmp_path, settings):
    data = mk.load_vqa("phantoms", split="train", modality="CT", n=16, scanner="B")
    run = train(tmp_path / "run", data, **{"learning_rate": 0.02} | settings)
    alone = [mk.predict(*mk.load_model(run.path / f"checkpoint-{step}"), rows, **ASKING) for step in (2, 4)]
    pd.testing.assert_frame_equal(mk.predict_checkpoints(run, rows, **ASKING), pd.concat(alone, ignore_index=True))


def test_checkpoints_of_others_are_given_and_called_by_their_folder(run, rows, tmp_path):
    for step in (2, 4):
        lend(run.path / f"checkpoint-{step}", tmp_path / "theirs" / f"checkpoint-{step}")
    preds = mk.predict_checkpoints(tmp_path / "theirs", rows.select(range(3)), labels={"seed": 9}, **ASKING)
    who = preds[["model", "method", "seed", "step"]].drop_duplicates().values.tolist()
    assert who == [[str(tmp_path / "theirs"), "given", 9, step] for step in (2, 4)]


def test_an_interrupted_one_goes_on_with_the_checkpoint_it_was_at(run, rows, asked, tmp_path, monkeypatch):
    real, asked_of = module.answered, []

    def killed_at_the_second(*what, **how):
        asked_of.append(how["labels"]["step"])
        if asked_of == [2, 4]:
            raise KeyboardInterrupt
        return real(*what, **how)

    monkeypatch.setattr(module, "answered", killed_at_the_second)
    output = tmp_path / "p.parquet"
    with pytest.raises(KeyboardInterrupt):
        mk.predict_checkpoints(run, rows, output=output, **ASKING)
    assert [file.name for file in tmp_path.iterdir()] == ["p.parquet.step-2.partial.jsonl"]
    answers, predicting = [], mk.predict.__globals__
    answerer = predicting["answerer"]

    def counting(*how):
        answer = answerer(*how)
        return lambda prompts, pictures: answers.append(len(prompts)) or answer(prompts, pictures)

    monkeypatch.setitem(predicting, "answerer", counting)
    pd.testing.assert_frame_equal(mk.predict_checkpoints(run, rows, output=output, **ASKING), asked)
    assert sum(answers) == 12, "what the first checkpoint had said is not asked again"
    assert [file.name for file in tmp_path.iterdir()] == ["p.parquet"]


def test_what_is_not_there_is_refused(run, tmp_path):
    assert list(checkpoints_of(run, (4, 2, 4))) == [2, 4]
    with pytest.raises(DataError, match=r"no checkpoint-3 in .*; there are those of the steps 2, 4$"):
        checkpoints_of(run.path, [2, 3])
    with pytest.raises(DataError, match=r"no checkpoints in .*save_steps=N"):
        checkpoints_of(tmp_path)
    for steps in ("all", [], 4, {2}):
        with pytest.raises(DataError, match=r"steps is .*; give a list of steps"):
            checkpoints_of(run, steps)
    with pytest.raises(DataError, match=r"labels name a step; each checkpoint has its own"):
        mk.predict_checkpoints(run, None, labels={"step": 4}, **ASKING)
    with pytest.raises(DataError, match=r"labels is a Run; give a dict"):
        mk.predict_checkpoints(run, None, labels=run, **ASKING)
    with pytest.raises(DataError, match=r"loading='dtypes' is unknown; did you mean 'dtype'"):
        mk.predict_checkpoints(run, None, loading={"dtypes": "float32"}, **ASKING)


# ---- from a shell ----------------------------------------------------------------------------------------------------

DATA = ["--dataset_name", "phantoms", "--num_rows", "8", "--max_new_tokens", "8"]


def test_the_command_asks_some_or_all_of_them(run, tmp_path, capsys):
    asked = ["predict", "--model_name_or_path", str(run.path), *DATA, "--checkpoints"]
    assert main([*asked, "all", "--output", str(tmp_path / "all.parquet")]) == 0
    assert pd.read_parquet(tmp_path / "all.parquet")["step"].tolist() == [2] * 8 + [4] * 8
    assert capsys.readouterr().out.lstrip().startswith("step ")
    assert main([*asked, "4", "--labels", "model=mine", "--output", str(tmp_path / "one.parquet")]) == 0
    one = pd.read_parquet(tmp_path / "one.parquet")
    assert set(one["step"]) == {4} and set(one["model"]) == {"mine"}


def test_the_command_takes_a_checkpoint_an_adapter_and_labels(run, tmp_path):
    def ask(*flags):
        assert main(["predict", *flags, *DATA, "--output", str(tmp_path / "p.parquet")]) == 0
        return pd.read_parquet(tmp_path / "p.parquet")

    alone = ask("--model_name_or_path", str(run.path / "checkpoint-2"))
    assert set(alone["step"]) == {2} and set(alone["method"]) == {"sft"}
    lend(run.path / "checkpoint-2", tmp_path / "lent")
    lent = ask("--model_name_or_path", "tiny", "--adapter", str(tmp_path / "lent"))
    assert set(lent["method"]) == {"given"} and lent["text"].equals(alone["text"])
    named = ask("--model_name_or_path", str(tmp_path / "lent"), "--labels", "method=grpo", "seed=1", "model=Med-R1")
    assert named[["method", "seed", "model"]].drop_duplicates().values.tolist() == [["grpo", 1, "Med-R1"]]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--checkpoints", "last"], "--checkpoints 'last' is no step; write all, or steps such as 100 200"),
        (["--checkpoints", "3"], "no checkpoint-3 in"),
        (["--checkpoints", "all", "--adapter", "x"], "leave --adapter out"),
        (["--labels", "method"], "--labels 'method' is no pair; write method=grpo"),
        (["--labels", "seeds=1"], "--labels='seeds' is unknown; did you mean 'seed'"),
        (["--labels", "seed=one"], "seed is a whole number"),
        (["--labels", "seed=1", "seed=2"], "--labels names seed twice"),
    ],
)
def test_the_command_refuses_in_one_sentence_before_anything_is_loaded(
    run, tmp_path, capsys, monkeypatch, flags, sentence
):
    monkeypatch.setattr(models, "load_base", lambda *_: pytest.fail("it was loaded"))
    line = ["predict", "--model_name_or_path", str(run.path), *DATA, "--output", str(tmp_path / "p.parquet")]
    assert main([*line, *flags]) == 2
    said = capsys.readouterr().err
    assert sentence in said and said.count("\n") == 1


# ---- never averaged --------------------------------------------------------------------------------------------------


@pytest.fixture
def sweep():
    """Four questions answered by the base and by two checkpoints: 2, 1 and 3 of 4 right."""
    right = {None: [1, 1, 0, 0], 100: [1, 0, 0, 0], 200: [1, 1, 1, 0]}
    table = []
    for step, verdicts in right.items():
        for number, verdict in enumerate(verdicts):
            who = {"method": "base" if step is None else "grpo", "seed": None if step is None else 0, "step": step}
            known = {"id": f"q{number}", "image_id": f"i{number}", "source": "s", "modality": "CT", "model": "m"}
            known |= {"question": "What?", "options": ["a", "b"], "answer": "A", "predicted": "BA"[verdict]}
            known |= {"task": "Lesion Grading", "lenient_predicted": "BA"[verdict], "correct": bool(verdict)}
            trained = None if step is None else "CT"
            known |= {"train_modality": trained, "train_task": None, "format": "no-think", "think": None}
            known |= {"text": f"<answer>{'BA'[verdict]}</answer>", "well_formed": True, "n_tokens": 4}
            table.append(known | who)
    return pd.DataFrame(table)


def test_a_score_is_of_one_checkpoint(sweep):
    trained = sweep[sweep["method"] == "grpo"]
    by_step = mk.score(sweep, by="step")
    assert by_step["accuracy"].tolist() == [0.25, 0.75, 0.5] and len(by_step) == 3  # no row for all
    assert mk.score(trained, by=["method", "step"])["n"].tolist() == [4, 4]
    with pytest.raises(
        DataError, match=r"2 checkpoints of one model \(step 100, 200\) are not averaged; add 'step' to by"
    ):
        mk.score(trained, by="modality")
    other_half = trained[(trained["step"] == 100) == trained["id"].isin(["q0", "q1"])]
    with pytest.raises(DataError, match="not averaged"):  # though no question is answered twice
        mk.score(other_half, by=None)
    assert mk.score(trained[trained["step"] == 200])["n"].tolist() == [4, 4]


def test_a_comparison_is_with_one_checkpoint(sweep):
    base, trained = sweep[sweep["method"] == "base"], sweep[sweep["method"] == "grpo"]
    assert mk.compare(base, trained[trained["step"] == 200]).difference == 0.25
    with pytest.raises(DataError, match=r"select one: after\[after\['step'\]"):
        mk.compare(base, trained)
    as_seeds = trained.assign(seed=trained["step"])  # two seeds, each at another step
    with pytest.raises(DataError, match="not averaged"):
        mk.compare(base, as_seeds)
    for table in (sweep, pd.concat([base, as_seeds])):
        with pytest.raises(DataError, match="not averaged; select one of each training"):
            mk.transfer_table(table)
    both = pd.concat([trained, trained.assign(format="think-before")])
    with pytest.raises(DataError, match="not averaged; select one of each training"):
        mk.compare_modes(both)


def test_errors_the_reader_and_the_report_part_them(sweep):
    trained = sweep[sweep["method"] == "grpo"]
    kinds = mk.errors(trained).kinds
    assert kinds[kinds["kind"] == "right"].set_index("step")["share"].to_dict() == {100: 0.25, 200: 0.75}
    names = [one.name for one in mk.inspect_outputs(sweep[sweep["method"] == "base"], trained).answers.answerers]
    assert [name.split(" · ")[-1] for name in names[1:]] == ["step 100", "step 200"]
    page = scores_section(mk.results.tables.check_predictions(sweep))
    assert "grpo no-think CT: accuracy by step" in page


def test_a_worksheet_keeps_the_answers_of_two_checkpoints_apart(sweep, tmp_path):
    trained = sweep[sweep["method"] == "grpo"]
    sheet = pd.read_csv(mk.export_worksheet(mk.errors(trained), tmp_path / "w.csv"))
    assert len(sheet) == 4 and sheet["key"].is_unique  # three wrong at step 100, one at 200


# ---- drawn -----------------------------------------------------------------------------------------------------------


def test_the_curve_has_a_point_a_checkpoint_with_its_interval(sweep):
    scores = mk.score(sweep, by=["method", "step"])
    ax = mk.plot_checkpoints(scores)
    curve = ax.containers[0]
    assert curve.lines[0].get_xydata().tolist() == [[100, 0.25], [200, 0.75]]
    low, high = scores[scores["step"] == 100][["low", "high"]].iloc[0]
    assert curve.lines[2][0].get_segments()[0][:, 1].tolist() == pytest.approx([low, high])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["grpo", "base", "chance"]
    levels = {line.get_label(): line.get_ydata()[0] for line in ax.lines if line.get_label() in ("base", "chance")}
    assert levels == {"base": 0.5, "chance": 0.5}


def test_what_is_no_curve_is_refused(sweep):
    with pytest.raises(DataError, match="no column 'step'"):
        mk.plot_checkpoints(mk.score(sweep[sweep["method"] == "base"]))
    with pytest.raises(DataError, match="have no steps, or two rows for one"):
        mk.plot_checkpoints(mk.score(sweep[sweep["method"] == "base"], by="step"))
    two = mk.score(sweep, by=["method", "step"])
    with pytest.raises(DataError, match="have no steps, or two rows for one"):
        mk.plot_checkpoints(pd.concat([two, two]))
