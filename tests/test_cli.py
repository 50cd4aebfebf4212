"""The command line, as a user types it."""

import json
import warnings

import pandas as pd
import pytest
from PIL import Image

from medr1kit.__main__ import main
from medr1kit.commands.flags import DataFlags, PredictFlags, fit_to_machine, modernise, parse_flags
from medr1kit.commands.loading import refuse_unused
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
    found = [part in adapter["target_modules"] for part in (r"visual\.merger", r"visual\.blocks")]
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
            ["grpo", "--dataset_name", "phantoms", "--num_rows", "8", "--output_dir", "x", "--load_in_4bit"],
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
    refuse_unused(dict.fromkeys(read, 1))
    for name in {*ModelConfig.__dataclass_fields__, "trust_remote_code"} - read:
        with pytest.raises(DataError, match=f"--{name} is not supported"):
            refuse_unused({name: 1})
    with pytest.raises(DataError, match="--use_peft is not supported"):
        refuse_unused({"use_peft": True}, ("use_peft",))


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
