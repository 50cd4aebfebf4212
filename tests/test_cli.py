"""The command line, as a user types it."""

import argparse
import errno
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import datasets
import pandas as pd
import pytest
from PIL import Image

from medr1kit.__main__ import COMMANDS, main
from medr1kit.commands.answers import print_scores
from medr1kit.commands.flags import DataFlags, PredictFlags, fit_to_machine, modernise, parse_flags
from medr1kit.commands.loading import add_table_flags, load_data, refuse_unused
from medr1kit.commands.training import not_for_these
from medr1kit.models.adapters import MERGER, TOWER
from medr1kit.results.tables import PREDICTIONS
from medr1kit.vqa import DataError


@pytest.fixture
def files(tmp_path):
    """Twelve questions about six pictures in Med-R1's format, with meta."""
    rows, meta = [], []
    for i in range(12):
        name, red = f"Images/set/{i // 2}.png", i % 4 < 2
        (tmp_path / "Images/set").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (200, 0, 0) if red else (0, 0, 200)).save(tmp_path / name)
        problem = "Which colour is it? A)red, B)blue" if i % 2 else "What is shown? A)blood, B)water, C)air"
        rows.append({"image": name, "problem": problem, "solution": f"<answer> {'A' if red else 'B'} </answer>"})
        meta.append({"image": name, "modality": "CT", "question_type": "Disease Diagnosis"})
    (tmp_path / "questions.json").write_text(json.dumps(rows))
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    return tmp_path


def data_flags(folder):
    questions, meta = str(folder / "questions.json"), str(folder / "meta.json")
    return ["--dataset_name", questions, "--image_folder", str(folder), "--meta", meta]


def test_without_a_command_the_commands_are_listed(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("doctor", "demo", "grpo", "sft", "predict"))
    assert main(["fly"]) == 2


def test_whoever_asks_for_a_benchmark_is_told_where_they_are(capsys):
    assert main(["benchmark", "grpo"]) == 2
    assert "python -m benchmarks grpo | predict | load | audit" in capsys.readouterr().out


def test_doctor_gives_reasons(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "device" in out and "(" in out and "attention     sdpa" in out


def test_sft_then_predict_on_a_med_r1_file(files, capsys):
    run = files / "run"
    arguments = ["--test_size", "0.34", "--max_steps", "2", "--per_device_train_batch_size", "4"]
    assert main(["sft", "--model_name_or_path", "tiny", *data_flags(files), "--output_dir", str(run), *arguments]) == 0
    out = capsys.readouterr().out
    assert "held out" in out and "blind floor" in out and "shuffled images" in out
    config = json.loads((run / "run.json").read_text())
    assert config["arguments"]["max_steps"] == 2 and config["format"] == "no-think"
    assert len(pd.read_parquet(run / "predictions.parquet")) == 12 - config["data"]["rows"]

    output = files / "preds.parquet"
    assert main(["predict", "--model_name_or_path", str(run), *data_flags(files), "--output", str(output)]) == 0
    preds = pd.read_parquet(output)
    assert len(preds) == 12 and set(preds["method"]) == {"sft"} and set(preds["train_modality"]) == {"CT"}
    assert "Disease Diagnosis" in capsys.readouterr().out


def test_the_reference_readme_s_flags_run_grpo(files, capsys):
    """The flags of Med-R1's training script (facts, section 4.5), for one process: batch 2 x accumulation 2."""
    line = """--max_prompt_length 1024 --per_device_train_batch_size 2 --gradient_accumulation_steps 2 --logging_steps 1
        --bf16 --report_to wandb --gradient_checkpointing false --attn_implementation flash_attention_2
        --max_pixels 401408 --num_train_epochs 1 --run_name x --save_steps 200 --save_only_model true
        --num_generations 4 --max_steps 1 --max_completion_length 8"""
    run = files / "grpo"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        command = ["grpo", "--model_name_or_path", "tiny", *data_flags(files), "--output_dir", str(run)]
        assert main([*command, *line.split()]) == 0
    notes = " ".join(str(w.message) for w in caught)
    assert "max_prompt_length" in notes and "--bf16 is ignored" in notes and "sdpa instead" in notes
    assert len(pd.read_parquet(run / "rollouts.parquet")) == 4


@pytest.mark.parametrize("command", ["sft", "grpo"])
@pytest.mark.parametrize(("merger", "tower"), [("true", "false"), ("false", "true")])
def test_flags_say_which_parts_of_the_model_are_adapted(files, command, merger, tower):
    """Whatever the preset adapts."""
    flags = ["--max_steps", "1", "--per_device_train_batch_size", "8", "--lora_r", "2"]
    flags += ["--lora_merger", merger, "--lora_tower", tower, "--output_dir", str(files / command)]
    assert main([command, *data_flags(files), *flags]) == 0
    adapter = json.loads((files / command / "run.json").read_text(encoding="utf-8"))["lora"]
    assert adapter["r"] == 2
    found = [part in adapter["target_modules"] for part in (MERGER, TOWER)]
    assert found == [merger == "true", tower == "true"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["sft", "--dataset_name", "nowhere.json", "--output_dir", "x"], "nowhere.json"),
        (["sft", "--dataset_name", "phantoms", "--num_rows", "8"], "--output_dir is missing"),
        (
            ["grpo", "--dataset_name", "phantoms", "--num_rows", "8", "--output_dir", "x", "--format", "poem"],
            "unknown format",
        ),
        (
            ["grpo", "--dataset_name", "phantoms", "--num_rows", "8", "--output_dir", "x", "--reward_funcs", "luck"],
            "luck",
        ),
        (
            ["grpo", "--dataset_name", "phantoms", "--num_rows", "8", "--output_dir", "x", "--num_generations", "5"],
            "multiple",
        ),
        (
            [
                "predict",
                "--dataset_name",
                "phantoms",
                "--num_rows",
                "8",
                "--output",
                "x.parquet",
                "--model_name_or_path",
                "no",
            ],
            "no model",
        ),
        (
            ["grpo", "--dataset_name", "phantoms", "--num_rows", "8", "--output_dir", "x", "--load_in_8bit"],
            "not supported",
        ),
    ],
)
def test_bad_input_ends_with_one_sentence_and_status_2(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1


def test_every_flag_of_trls_models_is_read_or_refused():
    from trl import ModelConfig

    read = {"model_name_or_path", "dtype", "attn_implementation", "use_peft", "lora_r", "lora_alpha", "lora_dropout"}
    read |= {"load_in_4bit"}
    refuse_unused(dict.fromkeys(read, 1))
    for name in {*ModelConfig.__dataclass_fields__, "trust_remote_code"} - read:
        with pytest.raises(DataError, match=f"--{name} is not supported"):
            refuse_unused({name: 1})
    with pytest.raises(DataError, match="--use_peft is not supported"):
        refuse_unused({"use_peft": True}, ("use_peft",))


def test_the_flags_say_how_a_source_is_understood_for_every_command(tmp_path):
    first, second = Image.new("L", (40, 40), 0), Image.new("L", (40, 40), 200)
    first.save(tmp_path / "1.tiff", save_all=True, append_images=[second])
    table = "image,question,A,B,answer\n1.tiff,图中是什么器官,肝脏,肺部,A\n"
    (tmp_path / "exam.csv").write_bytes(table.encode("gb18030"))
    words = ["--dataset_name", str(tmp_path / "exam.csv"), "--image_folder", str(tmp_path)]
    parser = argparse.ArgumentParser()
    add_table_flags(parser)
    understood = ["--encoding", "gb18030", "--frame", "1"]
    assert {name: value for name, value in vars(parser.parse_args(understood)).items() if value is not None} == {
        "encoding": "gb18030",
        "frame": 1,
    }
    flags = parse_flags([*words, *understood], "x", DataFlags)
    row = load_data(flags, None)[0]
    assert row["options"] == ["肝脏", "肺部"] and row["image"].getpixel((9, 9)) == (200, 200, 200)
    with pytest.raises(DataError, match="encoding='gb18030'"):
        load_data({name: value for name, value in flags.items() if name != "encoding"}, None)
    with pytest.raises(DataError, match="language= does not go with any source but SLAKE"):
        load_data(flags | {"language": "zh"}, None)


def test_only_flags_that_were_given_override_the_preset():
    flags = parse_flags(["--dataset_name", "phantoms", "--output", "p"], "x", DataFlags, PredictFlags)
    assert flags == {"dataset_name": "phantoms", "output": "p"}


def test_old_flags_are_rewritten():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert modernise(["--torch_dtype=bfloat16", "--use_cpu"]) == ["--dtype", "bfloat16", "--use_cpu", "true"]
        assert modernise(["--max_prompt_length", "1024", "--seed", "3"]) == ["--seed", "3"]
        assert modernise(["--warmup_ratio", "0.1"]) == ["--warmup_steps", "0.1"]


def test_deepspeed_without_the_package_is_refused_before_anything_is_loaded(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match="deepspeed"):
        fit_to_machine({"deepspeed": "zero2.json"}, "cuda")


def test_predict_refuses_its_output_before_a_model_is_loaded(files, capsys, monkeypatch):
    monkeypatch.setattr("medr1kit.models.load.load_model", lambda *_, **__: pytest.fail("loaded in vain"))
    asked = ["predict", *data_flags(files), "--output"]
    assert main([*asked, str(files / "p.csv")]) == 2
    assert "does not end in .parquet" in capsys.readouterr().err
    assert main([*asked, str(files)]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_predict_and_report_expand_the_home_folder(files, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(files))
    asked = ["predict", *data_flags(files), "--num_rows", "4", "--max_new_tokens", "4", "--output=~/out/p.parquet"]
    assert main(asked) == 0 and (files / "out/p.parquet").is_file()
    assert main(["report", "~/out/p.parquet"]) == 0 and (files / "out/report.html").is_file()


def test_predict_takes_the_test_split_of_a_saved_data_set_dict(files):
    from datasets import DatasetDict

    from medr1kit.data.load import load_vqa

    whole = load_vqa(files / "questions.json", images=files, meta=files / "meta.json")
    DatasetDict(train=whole.select(range(8)), test=whole.select(range(8, 12))).save_to_disk(files / "saved")
    output = files / "preds.parquet"
    assert main(["predict", "--dataset_name", str(files / "saved"), "--output", str(output)]) == 0
    assert pd.read_parquet(output)["id"].tolist() == whole["id"][8:]


def test_an_unsupported_or_unknown_flag_is_refused_before_anything_is_loaded(capsys):
    base = ["predict", "--dataset_name", "phantoms", "--output", "x.parquet"]
    for extra, message in ((["--model_revision", "main"], "--model_revision is not"), (["--luck", "7"], "--luck")):
        assert main([*base, *extra]) == 2
        assert message in capsys.readouterr().err


# --- stopped, and files that cannot be written ------------------------------------------------------------------------

SMALL = ["--dataset_name", "phantoms", "--num_rows", "8", "--max_steps", "1", "--per_device_train_batch_size", "8"]


@pytest.mark.parametrize(
    ("command", "left"),
    [
        (
            "grpo",
            "the same command with --resume goes on from the last checkpoint, and with --overwrite it trains anew",
        ),
        ("sft", "weights only if training had ended"),
        ("predict", "answers so far are kept beside the output; the same command goes on"),
        ("demo", "the same command starts anew"),
        ("convert", "delete it, and give the same command"),
        ("audit", "the same command starts anew"),
    ],
)
def test_ctrl_c_and_a_full_disk_end_in_one_line_that_says_what_is_left(command, left, monkeypatch, capsys):
    def stopping(error):
        def run(argv):
            raise error

        return run

    monkeypatch.setitem(COMMANDS, command, stopping(KeyboardInterrupt()))
    assert main([command]) == 130
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"medr1kit {command}: stopped; ") and left in said and "\n" not in said
    monkeypatch.setitem(COMMANDS, command, stopping(OSError(errno.ENOSPC, "No space left on device", "x/metrics.csv")))
    assert main([command]) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"medr1kit {command}: x/metrics.csv: No space left on device; ") and "\n" not in said


def test_ctrl_c_while_libraries_are_imported_is_no_traceback_either(tmp_path):
    (tmp_path / "trl.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).resolve().parents[1])])
    done = subprocess.run(
        [sys.executable, "-m", "medr1kit", "grpo", "--output_dir", str(tmp_path / "x"), *SMALL],
        env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 130 and done.stderr.strip().startswith("medr1kit grpo: stopped; ")
    assert "Traceback" not in done.stderr


def test_importing_the_command_line_loads_no_library():
    heavy = "{'pandas', 'numpy', 'datasets', 'torch', 'matplotlib'}"
    code = f"import sys, medr1kit.__main__; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n"


def test_a_run_whose_folder_is_lost_ends_in_one_line(tmp_path, monkeypatch, capsys):
    def full(file, text):
        raise OSError(errno.ENOSPC, "No space left on device", str(file))

    monkeypatch.setattr("medr1kit.results.runs._append", full)
    assert main(["sft", *SMALL, "--output_dir", str(tmp_path / "run")]) == 1
    assert f"{tmp_path}/run/metrics.csv: No space left on device" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["stopped"] == {"steps": 1, "reason": "OSError"}


@pytest.mark.parametrize("flag", [["--output_dir", "~/runs/x"], ["--output_dir=~/runs/x"]])
def test_a_tilde_is_the_home_folder_however_the_flag_is_written(tmp_path, monkeypatch, flag):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert main(["sft", *SMALL, *flag]) == 0
    assert (tmp_path / "home/runs/x/adapter").is_dir() and not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "already holds a run; choose another output_dir, or replace the run with overwrite=True (--overwrite)"),
        (["--output_dir", "file/x", "--overwrite"], "cannot be written"),
        (["--output_dir", "project", "--overwrite"], "project/model was not written by a run in this folder"),
    ],
)
def test_a_folder_that_cannot_take_a_run_is_refused_before_anything_is_loaded(
    flags, sentence, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("medr1kit.commands.training.load_data", lambda *_: pytest.fail("loaded"))
    (tmp_path / "file").write_text("")
    (tmp_path / "project" / "model").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"written_by": "medr1kit"}')
    (tmp_path / "run" / "metrics.csv").write_text("step\n1\n")
    assert main(["grpo", *SMALL, "--output_dir", "run", *flags]) == 2
    assert sentence in capsys.readouterr().err
    assert (tmp_path / "run" / "metrics.csv").read_text() == "step\n1\n"


def test_scores_of_questions_without_modality_and_task_are_one_line_without_holes(capsys):
    preds = pd.DataFrame([dict.fromkeys(PREDICTIONS) | {"id": str(k), "options": ["a", "b"]} for k in range(3)])
    preds = preds.assign(
        answer="A", predicted="A", lenient_predicted="A", correct=True, well_formed=True, n_tokens=4, method="base"
    )
    print_scores(preds)
    said = capsys.readouterr().out
    assert len(said.strip().splitlines()) == 2 and "NaN" not in said and "1.0" in said
    print_scores(preds.assign(modality=["CT", "CT", None], step=[1, 1, 2]))
    assert "NaN" not in capsys.readouterr().out


def test_the_built_in_model_says_that_it_knows_drawn_images_only():
    theirs, ours = (datasets.Dataset.from_dict({"source": [name] * 2}) for name in ("exam", "phantoms"))
    assert "--model_name_or_path" in not_for_these("tiny", theirs)
    assert not_for_these("tiny", ours) == ""
