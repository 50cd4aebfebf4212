"""FSDP on two processes. accelerate uses it on GPUs alone; sharded_runs.py lets it run with gloo, all else as it is."""

import pytest
import torch
from sharded_cases import CONFIGS, SHARED, TORCHRUN, apart, equal, run, train_all, weights_in

import medr1kit as mk
from medr1kit.results.runs import load_run

FSDP, SAVED = SHARED | {"fsdp": True}, {"save_steps": 2}
TRAININGS = {
    "sft": ("sft", FSDP),
    "grpo": ("grpo", FSDP | SAVED | {"ask": True}),
    "stopped": ("grpo", FSDP | SAVED | {"stop_after": 3}),
    "resumed": ("grpo", FSDP | SAVED),
    "nothing-learnt": ("sft", FSDP | {"learning_rate": 0.0, "max_steps": 1}),
    "no-number": ("sft", FSDP | {"spoil_after": 2, "save_steps": 1}),
    "ungathered": ("sft", FSDP | {"fsdp_config": {"state_dict_type": "SHARDED_STATE_DICT"}}),
    "whole": ("sft", FSDP | {"lora": False}),
}
