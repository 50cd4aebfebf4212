"""The command line of Med-R1's README on two processes, with only the script swapped, and its --reference twin."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
README = """--max_prompt_length 1024 --num_generations 4 --per_device_train_batch_size 1 --gradient_accumulation_steps 2
    --logging_steps 1 --bf16 --report_to wandb --gradient_checkpointing false
    --attn_implementation flash_attention_2 --max_pixels 401408 --num_train_epochs 2 --run_name Qwen2.5-VL-3B-CT
    --save_steps 200 --save_only_model true"""  # run_grpo_2_5_train_vqa_nothink.sh
SMALL = "--model_name_or_path tiny --dataset_name phantoms --modality CT --num_rows 16 --max_completion_length 8"


def torchrun(folder, *flags, line=README):
    """Run ``grpo`` on two gloo processes; return what it printed and the run's settings and completions."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m", "medr1kit"]
    command += ["grpo", *SMALL.split(), *line.split(), "--output_dir", str(folder), *flags]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    config = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return done.stdout + done.stderr, config, pd.read_parquet(folder / "rollouts.parquet")


@pytest.mark.parametrize("reference", [False, True])
def test_the_readme_s_line_takes_four_prompts_only_as_the_reference_reads_it(tmp_path, reference):
    flags = ["--max_steps", "2", *(["--reference"] if reference else [])]
    printed, config, rollouts = torchrun(tmp_path / "run", *flags)
    assert printed.count("note: --max_prompt_length is ignored") == 1, "of two processes one says it"
    completions = rollouts.groupby("step").size().unique().tolist()
    prompts = rollouts.groupby("step")["id"].nunique().unique().tolist()
    arguments = config["arguments"]
    differs = re.findall(r"takes 4 completions of 1 questions \(16 of 4\).*an adapter \(all weights\)", printed)
    if not reference:
        assert (completions, prompts) == ([4], [1]) and config["lora"] and arguments["loss_type"] == "dapo"
        assert differs
        return
    assert (completions, prompts) == ([16], [4]) and not differs
    assert config["lora"] is None and (tmp_path / "run" / "model" / "model.safetensors").is_file()
    known = {"learning_rate": 1e-6, "loss_type": "grpo", "beta": 0.04, "top_k": 50, "warmup_steps": 0, "bf16": True}
    assert {name: arguments[name] for name in known} == known
    assert (arguments["per_device_train_batch_size"], arguments["gradient_accumulation_steps"]) == (4, 2)


def test_the_preset_takes_its_four_prompts_on_two_processes(tmp_path):
    _, _, rollouts = torchrun(tmp_path / "run", "--preset", "med-r1", "--max_steps", "1", line="")
    assert (len(rollouts), rollouts["id"].nunique()) == (16, 4)
