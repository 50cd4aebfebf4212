"""What a training lacks here is refused in a sentence before anything is loaded, and one process takes one GPU."""

import importlib.util
import warnings

import pytest
import torch

import medr1kit as mk
from medr1kit.__main__ import main
from medr1kit.models.load import load_model
from medr1kit.training.needs import missing_reporters, refuse_lacking
from medr1kit.vqa import DataError

STEP = {"max_steps": 1, "per_device_train_batch_size": 4, "num_generations": 4, "max_completion_length": 4}
PACKAGES = ("vllm", "liger_kernel", "bitsandbytes", "galore_torch", "torchao", "schedulefree", "deepspeed")
LACKING = {
    "vllm": ({"use_vllm": True}, "use_vllm=True needs the package vllm, which is not installed: pip install vllm"),
    "liger": ({"use_liger_kernel": True}, "needs the package liger-kernel"),
    "trackio": ({"report_to": "trackio"}, "report_to='trackio' is not installed"),
    "one of two": ({"report_to": ["none", "trackio"]}, "report_to='trackio'"),
    "no reporter": ({"report_to": "wanbd"}, "report_to='wanbd' is not installed or not known"),
    "bitsandbytes": ({"optim": "adamw_bnb_8bit"}, "optim='adamw_bnb_8bit' needs the package bitsandbytes"),
    "paged": ({"optim": "paged_adamw_32bit"}, "bitsandbytes"),
    "galore": ({"optim": "galore_adamw_8bit"}, "galore-torch"),
    "torchao": ({"optim": "adamw_torch_8bit"}, "torchao"),
    "schedule": ({"optim": "schedule_free_adamw"}, "schedulefree"),
    "evaluation": ({"eval_strategy": "steps"}, "eval_strategy='steps' needs a set to evaluate on"),
    "best": ({"load_best_model_at_end": True}, "load_best_model_at_end=True needs a set"),
    "fsdp on a CPU": ({"fsdp": "full_shard"}, "FSDP is not used on a CPU"),
    "push offline": (
        {"push_to_hub": True, "output_dir": "ct"},
        r"push_to_hub=True cannot push to 'ct' .*HF_HUB_OFFLINE is set",
    ),
}


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch):
    """As on a fresh CPU machine without a network, whatever is installed here."""
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in PACKAGES else real(name))
    monkeypatch.setattr("transformers.integrations.get_available_reporting_integrations", lambda: ["tensorboard"])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("case", LACKING)
def test_what_is_lacking_is_refused_in_one_sentence(case):
    settings, sentence = LACKING[case]
    with pytest.raises(DataError, match=sentence) as refused:
        refuse_lacking(settings, "cpu")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("case", ["vllm", "bitsandbytes", "evaluation"])
def test_the_python_functions_refuse_it_before_the_model_is_touched(tiny, train_phantoms, tmp_path, case):
    settings, sentence = LACKING[case]
    with pytest.raises(DataError, match=sentence):
        mk.train_grpo(*tiny, train_phantoms, format="no-think", output_dir=tmp_path / "run", **STEP, **settings)
    assert not (tmp_path / "run").exists() and not hasattr(tiny[0], "peft_config")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--use_vllm"], "vllm"),
        (["--report_to", "trackio"], "trackio"),
        (["--optim", "adamw_bnb_8bit"], "bitsandbytes"),
        (["--eval_strategy", "steps"], "evaluate"),
        (["--fsdp", "full_shard"], "FSDP"),
        (["--push_to_hub", "true"], "hub"),
        (["--deepspeed", "zero2.json"], "deepspeed"),
        (["--num_generations", "3"], "no multiple"),
        (["--lr_scheduler_type", "linaer"], "linaer"),
        (["--learning_rate", "5"], "learning_rate"),
    ],
)
def test_the_command_refuses_it_before_the_model_is_loaded(monkeypatch, capsys, tmp_path, flags, sentence):
    monkeypatch.setattr("medr1kit.models.load.load_model", lambda *_, **__: pytest.fail("loaded in vain"))
    monkeypatch.setattr("medr1kit.data.load.load_vqa", lambda *_, **__: pytest.fail("read in vain"))
    asked = ["grpo", "--dataset_name", "phantoms", "--use_cpu", "--output_dir", str(tmp_path / "run"), *flags]
    assert main(asked) == 2
    err = capsys.readouterr().err
    assert sentence in err and "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_what_is_there_is_not_refused():
    refuse_lacking({"report_to": "tensorboard", "optim": "adamw_torch_fused", "eval_strategy": "no"}, "cpu")
    assert missing_reporters("none") == missing_reporters(None) == missing_reporters(["tensorboard"]) == []


def test_fsdp_and_deepspeed_want_a_launcher(monkeypatch, tmp_path):
    with pytest.raises(DataError, match="FSDP spreads a model over several processes, and this is one alone"):
        refuse_lacking({"fsdp": "full_shard"}, "cuda")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    with pytest.raises(DataError, match="is no file"):
        refuse_lacking({"deepspeed": str(tmp_path / "zero.json")}, "cuda")
    (tmp_path / "zero.json").write_text("{}")
    with pytest.raises(DataError, match="needs a launcher"):
        refuse_lacking({"deepspeed": str(tmp_path / "zero.json")}, "cuda")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    refuse_lacking({"deepspeed": str(tmp_path / "zero.json")}, "cuda")
    refuse_lacking({"fsdp": "full_shard"}, "cuda")


def test_an_accelerate_launch_that_started_one_process_of_several_is_noticed(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    refuse_lacking({}, "cpu")  # one was asked for
    monkeypatch.setenv("MASTER_PORT", "29500")  # which `accelerate launch` sets for several
    with pytest.raises(DataError, match=r"asked for several processes and has started one.*torchrun"):
        refuse_lacking({}, "cpu")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")  # by MPI it does start them
    refuse_lacking({}, "cpu")


@pytest.mark.parametrize("train", ["grpo", "sft"])
def test_one_process_takes_one_gpu_of_two_and_says_so(monkeypatch, fresh_tiny, train_phantoms, tmp_path, train):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)  # a CPU that takes itself for two GPUs
    arguments = {"format": "no-think", "output_dir": tmp_path, "use_cpu": False, "bf16": False, "warmup_steps": 0}
    arguments |= STEP if train == "grpo" else {"max_steps": 1, "per_device_train_batch_size": 4}
    with pytest.warns(UserWarning, match="2 GPUs are visible, and one process trains on one.*--nproc_per_node=2"):
        run = getattr(mk, f"train_{train}")(*fresh_tiny, train_phantoms, **arguments)
    assert len(run.metrics) == 1


def test_a_model_on_the_second_gpu_is_refused_with_the_way_to_train_there():
    from medr1kit.training.needs import check_model

    class Args:
        n_gpu, learning_rate, deepspeed, fsdp = 2, 1e-4, None, None

    class Model:
        device, dtype = torch.device("cuda:1"), torch.float32

    with pytest.raises(DataError, match=r"the model is on cuda:1.*CUDA_VISIBLE_DEVICES=1"):
        check_model(Args, Model, None)


def test_all_weights_in_half_precision_cannot_move_by_a_millionth(train_phantoms, tmp_path):
    model, processor = load_model("tiny", dtype="bfloat16")
    arguments = {"format": "no-think", "lora": False, "output_dir": tmp_path / "run", **STEP}
    with pytest.raises(DataError, match=r"in bfloat16, where a step of learning_rate=1e-06 is rounded away.*float32"):
        mk.train_grpo(model, processor, train_phantoms, learning_rate=1e-6, **arguments)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    from medr1kit.models.machine import choose_device

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda *_: "Some GPU")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device().value == "cuda:1"
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(DataError, match=r"process 3 on a machine that shows 2 GPU\(s\).*--nproc_per_node=2"):
        choose_device()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setenv("LOCAL_RANK", "0")
        assert "of this process: Some GPU" in choose_device().reason
