"""Trainings for tests to start with torchrun: ``sharded_runs.py '[["grpo", FOLDER, {arguments}], …]'``.

Completions are drawn from their place in the step and not by the model, so that any number of processes trains on the
same ones: what differs then is how gradients were summed and weights kept.
"""

import gc
import json
import sys

COMMON = {"format": "no-think", "seed": 3, "learning_rate": 1e-3, "warmup_steps": 0, "max_steps": 3}
METHOD = {"sft": {}, "grpo": {"num_generations": 4, "max_completion_length": 12, "beta": 0.04}}


def replay_completions():
    """Let TRL's trainer and ours take completions that follow from step and row alone."""
    import torch
    from trl import GRPOTrainer

    from medr1kit.training.shared_trainer import SharedPrefixGRPOTrainer

    def replayed(self, prompt_ids, images, multimodal_fields, num_generations, has_tool_images=False):
        first, drawn = self.accelerator.process_index * len(prompt_ids), []
        for row in range(first, first + len(prompt_ids)):
            chance = torch.Generator().manual_seed(1000 * self.state.global_step + row)
            length = torch.randint(3, 12, (1,), generator=chance).item()
            drawn.append([*torch.randint(0, 800, (length,), generator=chance).tolist(), self.eos_token_ids[0]])
        return drawn, None

    GRPOTrainer._generate_single_turn = SharedPrefixGRPOTrainer._generate_single_turn = replayed


def by_tokens(completion_ids, **columns):
    """A reward that differs within each group, and is the same wherever a completion is paid."""
    return [sum(ids) % 7 / 7 for ids in completion_ids]


def stop_after(step):
    """Stop the training once a step was logged, before it is saved."""
    from medr1kit.training.recording import Recorder

    log = Recorder.on_log

    def on_log(self, args, state, control, **kwargs):
        log(self, args, state, control, **kwargs)
        if state.global_step == step:
            raise KeyboardInterrupt

    Recorder.on_log = on_log


def train(method, folder, arguments):
    import medr1kit as mk

    if step := arguments.pop("stop_after", None):
        stop_after(step)

    arguments = COMMON | METHOD[method] | arguments
    rows = mk.load_vqa("phantoms", split="train", n=16, scanner="B")
    model, processor = mk.load_model(arguments.pop("model", "tiny"), dtype=arguments.pop("dtype", "float32"))
    if method == "grpo":
        arguments.setdefault("rewards", [by_tokens])
    return getattr(mk, f"train_{method}")(model, processor, rows, output_dir=folder, **arguments)


if __name__ == "__main__":
    replay_completions()
    for method, folder, arguments in json.loads(sys.argv[1]):
        train(method, folder, arguments)
        gc.collect()  # what knows of the last training's DeepSpeed goes with its arguments
