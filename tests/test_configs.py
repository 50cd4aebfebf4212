"""The settings in configs/ are understood by those who read them, and leave to the trainer what it decides."""

from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils.deepspeed import HfDeepSpeedConfig
from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig
from trl import SFTConfig

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def autos(settings):
    """Names whose value is left open, from whichever depth."""
    for name, value in settings.items():
        yield from autos(value) if isinstance(value, dict) else [name] * (value == "auto")


def filled_by_transformers(file):
    """Its class for such a file as it is where DeepSpeed is installed; tests/distributed runs with the files."""
    parts = {name: value for name, value in vars(HfTrainerDeepSpeedConfig).items() if not name.startswith("__")}
    return type("Settings", (HfDeepSpeedConfig,), parts | {"mismatches": []})(str(file))


@pytest.mark.parametrize("stage", [2, 3])
def test_transformers_fills_in_whatever_deepspeed_s_settings_leave_open(tiny, tmp_path, stage):
    settings = filled_by_transformers(CONFIGS / f"zero{stage}.json")
    assert {"train_batch_size", "train_micro_batch_size_per_gpu"} < set(autos(settings.config))
    args = SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, per_device_train_batch_size=4)
    settings.trainer_config_process(args)
    settings.trainer_config_finalize(args, tiny[0], 10)
    assert not list(autos(settings.config)) and settings.get_value("zero_optimization.stage") == stage
    assert settings.get_value("train_batch_size") == 4 and settings.get_value("bf16.enabled") is False
    assert (stage == 3) == bool(settings.get_value("zero_optimization.stage3_gather_16bit_weights_on_model_save"))


def test_accelerate_knows_each_line_of_fsdp_s_settings():
    file = CONFIGS / "fsdp.yaml"
    loaded, known = load_config_from_file(str(file)), vars(launch_command_parser().parse_args(["script.py"]))
    asked = yaml.safe_load(file.read_text())["fsdp_config"]
    assert loaded.distributed_type == "FSDP" and loaded.fsdp_config == asked and asked.keys() <= known.keys()
    assert (asked["fsdp_version"], asked["fsdp_state_dict_type"]) == (2, "FULL_STATE_DICT")
