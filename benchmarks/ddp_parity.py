"""Shared prompts under DDP: two processes end with the weights of stock TRL, and with each other's.

    torchrun --nproc_per_node 2 benchmarks/ddp_parity.py [WORD]

Prints for each case (whose name begins with WORD) how far the weights end from stock's, relative to how far training
moved them, how far the logged losses, gradient norms and entropies differ, and whether the ranks hold equal weights.
About a minute on two cores.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE", HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")

import logging
import sys
import tempfile

import torch
import torch.distributed as dist
from datasets import Dataset
from peft import get_peft_model
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

import medr1kit as mk
from medr1kit.models.adapters import lora
from medr1kit.models.load import image_token_ids
from medr1kit.training.shared_trainer import SharedPrefixGRPOTrainer

CASES = {  # rows a process, group size, other settings
    "a group a process": (4, 4, {}),
    "a group split over both": (4, 8, {}),
    "groups of 4, 6 rows a process": (6, 4, {}),
    "KL, accumulated": (2, 4, {"beta": 0.04, "gradient_accumulation_steps": 2}),
    "checkpointing": (4, 4, {"gradient_checkpointing": True}),
    "one process without advantage": (4, 4, {"one_ties": True}),
    "tower, too": (4, 4, {"tower": True, "beta": 0.04}),
    "tower, too, accumulated": (2, 4, {"tower": True, "gradient_accumulation_steps": 2, "one_ties": True}),
    "tower, too, checkpointing": (4, 8, {"tower": True, "gradient_checkpointing": True}),
}


def odd_tokens(completion_ids, **_):
    return [float(sum(token % 2 for token in ids[:4])) for ids in completion_ids]


def only_the_second_process(completion_ids, **_):
    return odd_tokens(completion_ids) if int(os.environ["RANK"]) else [1.0] * len(completion_ids)


def train(kind, rows, per_process, group, changes):
    model, processor = mk.load_model("tiny")
    torch.manual_seed(0)
    settings = {"learning_rate": 0.1, "optim": "sgd", "max_grad_norm": 0.0, "max_steps": 2, "logging_steps": 1}
    settings |= {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": "none", "seed": 3}
    settings |= {"save_strategy": "no", "disable_tqdm": True, "ddp_find_unused_parameters": False}
    settings |= {"generation_kwargs": {"suppress_tokens": image_token_ids(model)}, "max_completion_length": 12}
    changes = dict(changes)
    reward = only_the_second_process if changes.pop("one_ties", False) else odd_tokens
    model = get_peft_model(model, lora(merger=True, tower=changes.pop("tower", False)))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    before = vector(model)
    with tempfile.TemporaryDirectory() as folder:
        trainer = kind(
            model=model,
            reward_funcs=reward,
            args=GRPOConfig(
                output_dir=folder,
                per_device_train_batch_size=per_process,
                num_generations=group,
                **(settings | changes),
            ),
            train_dataset=rows,
            processing_class=processor,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    return before, vector(model), [(entry["loss"], entry["grad_norm"], entry["entropy"]) for entry in steps]


def vector(model):
    """The trained weights as one vector."""
    return torch.cat([w.detach().flatten() for _, w in model.named_parameters() if w.requires_grad]).double()


def equal_on_all_ranks(weights):
    held = [torch.empty_like(weights) for _ in range(dist.get_world_size())]
    dist.all_gather(held, weights)
    return all(torch.equal(other, held[0]) for other in held)


def main():
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    phantoms = mk.load_vqa("phantoms", split="train", n=12, scanner="B")  # where it errs, so that groups differ
    prompts = [[{"role": "user", "content": mk.NO_THINK.prompt(row["problem"])}] for row in phantoms]
    rows = Dataset.from_dict({"prompt": prompts, "image": [row["image"] for row in phantoms]})
    wanted = {name: case for name, case in CASES.items() if name.startswith(tuple(sys.argv[1:]) or "")}
    for name, case in wanted.items():
        before, theirs, stock = train(GRPOTrainer, rows, *case)
        _, ours, shared = train(SharedPrefixGRPOTrainer, rows, *case)
        away = ((ours - theirs).norm() / (theirs - before).norm()).item()
        logs = max(abs(a - b) for pair in zip(stock, shared) for a, b in zip(*pair))
        equal = equal_on_all_ranks(ours)
        if dist.get_rank() == 0:
            print(f"{name:32} weights {away:.1e}  logs {logs:.1e}  ranks equal: {equal}", flush=True)
        assert away < 2e-5 and equal
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
