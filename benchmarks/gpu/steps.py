"""Whole GRPO steps: TRL's trainer as it is against the one that shares prompts, by phase.

The trainers are built bare, without the run folder and tables that :func:`medr1kit.train_grpo` adds. The clock is read
where a trainer calls its reward; between two calls everything happens once. Three phases are told apart by wrapping the
methods that do them, on both sides alike:

- *sampling*, ``_generate_single_turn``: reading prompts and decoding;
- *loss*, ``_compute_loss``, and the scoring by the reference before it;
- *backward*, ``accelerator.backward``;

and the *rest* is what is left: preprocessing of images, the optimizer, logging, the next questions.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from statistics import median
from typing import Any

from benchmarks.gpu.device import Missing, Phases, forget_peak, now, peak_gb
from benchmarks.gpu.sampling import settings_of
from benchmarks.gpu.shape import Shape, model_for, questions

BETA = 0.04  # as in the presets for a GPU: the reference scores, too
STEPS = 3  # the sampling of the first is not counted
PHASES = {"_generate_single_turn": "sampling", "_get_per_token_logps_and_entropies": "loss", "_compute_loss": "loss"}
GRAPHS = "MEDR1KIT_CUDA_GRAPHS"


def step(
    shape: Shape, device: str, *, shared: bool, attn: str = "sdpa", checkpointing: bool = False, graphs: bool = False
) -> dict[str, Any]:
    """Train for a few steps and return the seconds of one, by phase, and the peak of memory.

    Args:
        shape, device: what, and where.
        shared: by the trainer that shares prompts, or by TRL's own.
        attn: attention of the model.
        checkpointing: of gradients.
        graphs: ask for CUDA graphs while decoding.

    Raises:
        Missing: if TRL is not there, or not one whose step can be shared.
    """
    model, processor = model_for(shape, device, attn=attn)
    readings: list[tuple[float, dict[str, float]]] = []
    phases = Phases(device)

    def reward(completion_ids: list[list[int]], **_: Any) -> list[float]:
        """Another number for each completion, so that none is left out of the loss."""
        readings.append((now(device), dict(phases.seconds)))
        return [int(hashlib.sha1(repr(ids).encode()).hexdigest()[:8], 16) / 2**32 for ids in completion_ids]

    with tempfile.TemporaryDirectory() as folder, _graphs(graphs):
        forget_peak(device)
        trainer = _trainer(shape, device, model, processor, folder, reward, shared, checkpointing)
        for method, phase in PHASES.items():
            phases.watch(trainer, method, phase)
        phases.watch(trainer.accelerator, "backward", "backward")
        trainer.train()
    steps = [_between(*two) for two in pairwise(readings)]
    return {name: round(median(one[name] for one in steps), 4) for name in steps[0]} | {"peak_gb": peak_gb(device)}


def _between(before: tuple[float, dict], after: tuple[float, dict]) -> dict[str, float]:
    """Seconds of a step: the whole, its phases, and what is left."""
    spent = {phase: after[1].get(phase, 0.0) - before[1].get(phase, 0.0) for phase in ("sampling", "loss", "backward")}
    whole = after[0] - before[0]
    found = {"step_s": whole, **{f"{phase}_s": seconds for phase, seconds in spent.items()}}
    return found | {"rest_s": whole - sum(spent.values())}


@contextmanager
def _graphs(asked: bool) -> Iterator[None]:
    """Ask for CUDA graphs as a user does."""
    before = os.environ.get(GRAPHS)
    os.environ[GRAPHS] = "1" if asked else "0"
    try:
        yield
    finally:
        os.environ.pop(GRAPHS) if before is None else os.environ.update({GRAPHS: before})


def _trainer(shape, device, model, processor, folder, reward, shared, checkpointing):
    try:
        from transformers import PrinterCallback
        from trl import GRPOConfig, GRPOTrainer
    except (ImportError, RuntimeError) as error:  # transformers' lazy imports raise the latter
        raise Missing(f"whole steps need TRL: {error}") from error
    from medr1kit.models.adapters import lora
    from medr1kit.training.trainers import trainer_class

    drawn = settings_of(model, shape)
    args = GRPOConfig(
        output_dir=folder,
        use_cpu=device == "cpu",
        bf16=True,
        per_device_train_batch_size=shape.rows,
        num_generations=shape.group,
        max_completion_length=shape.new_tokens,
        generation_kwargs={"min_new_tokens": shape.new_tokens, "suppress_tokens": drawn.suppress_tokens},
        max_steps=STEPS,
        beta=BETA,
        learning_rate=1e-5,
        gradient_checkpointing=checkpointing,
        seed=0,
        report_to="none",
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    rows, adapter, kind = questions(shape, shape.prompts * STEPS), lora(rank=16, alpha=32), GRPOTrainer
    if shared:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the row says it
            kind, reason = trainer_class(model, args, rows, adapter)
        if reason:
            raise Missing(f"prompts are not shared: {reason}")
    made = kind(
        model=model,
        args=args,
        train_dataset=rows,
        processing_class=processor,
        reward_funcs=[reward],
        peft_config=adapter,
    )
    made.remove_callback(PrinterCallback)
    return made
