"""Peak memory of a GRPO step at the vocabulary of a real model, stock against shared prefix.

A real vocabulary has 152 thousand words; one float32 logit for each of them and each of 4096 completion tokens is
2.5 GB. The built-in model's sizes with such a vocabulary, random weights and completions of fixed length show what
each side holds at most. Each side runs in a process of its own, because a process cannot forget its peak. There the
allocator of Linux is told to give blocks of 1 MB and more back at once (MALLOC_MMAP_THRESHOLD_): the peak is then what
was held, not what was kept in reserve.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.cases.even import distinct_reward, fixed_length
from medr1kit.training.telemetry import peak_memory

VOCABULARY = 151_936  # Qwen2-VL's
NEW_TOKENS = 128
PROMPTS, GROUP = 4, 8
MiB = 2**20
ROOT = Path(__file__).resolve().parents[2]
_GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": str(10**6)}


def measure_memory(vocabulary: int = VOCABULARY, new_tokens: int = NEW_TOKENS) -> dict:
    """Return the case ``loss_memory``: ``stock_mib``, ``fast_mib`` and their ``memory_ratio``; it has no seconds."""
    found = {}
    for name in ("stock", "fast"):
        command = [sys.executable, "-m", "benchmarks.cases.memory", name, str(vocabulary), str(new_tokens)]
        environment = {**os.environ, **_GIVE_BACK}
        result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
        if result.returncode:
            raise RuntimeError(f"the {name} side of loss_memory failed:\n{result.stderr[-2000:]}")
        found[name] = json.loads(result.stdout.splitlines()[-1])
    stock, fast = found["stock"], found["fast"]
    near = abs(stock["grad_norm"] - fast["grad_norm"]) <= 1e-4 * stock["grad_norm"]
    return {
        "name": "loss_memory",
        "stock_s": None,
        "fast_s": None,
        "ratio": None,
        "repeats": 1,
        "exact": stock["texts"] == fast["texts"] and near,
        "stock_mib": round(stock["bytes"] / MiB, 1),
        "fast_mib": round(fast["bytes"] / MiB, 1),
        "memory_ratio": round(stock["bytes"] / fast["bytes"], 2),
        "about": f"peak memory of a step above what the process held before, {PROMPTS * GROUP} rows of {new_tokens} "
        f"new tokens, a vocabulary of {vocabulary:,}: stock {stock['bytes'] / MiB:,.0f} MiB, fast "
        f"{fast['bytes'] / MiB:,.0f} MiB, x{stock['bytes'] / fast['bytes']:.1f}",
    }


def peak_of_a_step(fast: bool, vocabulary: int, new_tokens: int) -> dict:
    """Run one step in this process; return its peak above what was held before, in bytes, its texts and gradient."""
    import torch

    from medr1kit.data.load import load_vqa

    torch.set_num_threads(1)
    questions = load_vqa("phantoms", split="train", n=PROMPTS)
    model, processor = _wide_model(vocabulary)
    _step(model, processor, questions, fast, 2, rows=2)  # what is imported and kept at the first step is not the loss's
    held, peak_so_far = held_and_peak()
    metrics, rollouts = _step(model, processor, questions, fast, new_tokens)
    peak = held_and_peak()[1]
    if peak <= peak_so_far:
        raise RuntimeError("what came before took more memory than the step; the step's peak cannot be seen")
    texts = rollouts.sort_values(["id", "rollout"])["text"].tolist()
    return {"bytes": peak - held, "texts": texts, "grad_norm": float(metrics["grad_norm"].iloc[0])}


def held_and_peak() -> tuple[int, int]:
    """Return the memory that this process holds, and the most it has held so far, in bytes.

    Linux tells both; elsewhere only the peak is known and stands for both. (``ru_maxrss`` would not do on Linux: a new
    process inherits it from the one that started it.)
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        peak = int(peak_memory() * 1e9)
        return peak, peak
    lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
    return tuple(int(lines[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))  # "kB" there means KiB


def _step(model, processor, questions, fast: bool, new_tokens: int, rows: int = PROMPTS * GROUP):
    """One step of one trainer, read into memory."""
    from medr1kit.training.train import train_grpo

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = {"learning_rate": 0.0, "max_steps": 1, **fixed_length(new_tokens)}
        settings |= {"per_device_train_batch_size": rows, "num_generations": min(GROUP, rows)}
        run = train_grpo(
            model,
            processor,
            questions,
            format="think-before",
            output_dir=folder,
            rewards=[distinct_reward],
            shared_prefix=fast,
            **settings,
        )
        return run.metrics, run.rollouts


def _wide_model(vocabulary: int):
    return random_model(lambda config: setattr(config.text_config, "vocab_size", vocabulary))


def random_model(change: Callable[[Any], None]) -> tuple[Any, Any]:
    """Return a model of the built-in one's config, changed, with random weights, and the built-in processor."""
    from transformers import AutoConfig

    from medr1kit.models.load import TINY

    config = AutoConfig.from_pretrained(TINY)
    change(config)
    return model_of(config)


def model_of(
    config: Any, device: str = "cpu", dtype: str = "float32", attn: str = "sdpa", max_pixels: int | None = None
) -> tuple[Any, Any]:
    """Return a model of a config with random weights, made where it is to be, and the built-in processor."""
    import torch
    from transformers import AutoModelForImageTextToText

    from medr1kit.models.load import TINY
    from medr1kit.models.processor import load_processor

    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, dtype=getattr(torch, dtype), attn_implementation=attn)
    processor = load_processor(TINY, config.model_type, max_pixels)
    ends = {"eos_token_id": processor.tokenizer.eos_token_id, "pad_token_id": processor.tokenizer.pad_token_id}
    model.generation_config.update(**ends)
    return model, processor


if __name__ == "__main__":
    os.environ["CI"] = "1"  # no progress bars
    side, vocabulary, new_tokens = sys.argv[1:]
    print(json.dumps(peak_of_a_step(side == "fast", int(vocabulary), int(new_tokens))))
