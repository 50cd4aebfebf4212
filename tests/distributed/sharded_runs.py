"""Trainings that tests start with torchrun: ``sharded_runs.py '[[FOLDER, METHOD, {arguments}], …]'``, one by one.

Completions are drawn from step and row, not from the model, so that any number of processes trains on the same ones:
what differs then is how gradients are summed and weights kept. What a training said and how it ended goes to
``FOLDER.RANK.json``. Beside those of a training these arguments are known:

model, dtype  what is loaded
stop_after    stop once this step was logged, before it is saved
spoil_after   after this step a number that only the second process holds is none any more
ask           ask the model afterwards, and load the run
"""

import json
import os
import sys
import warnings
from pathlib import Path

COMMON = {"format": "no-think", "seed": 3, "learning_rate": 1e-3, "warmup_steps": 0, "max_steps": 3}
# Adam divides a gradient by its size; of one near 0 that makes a whole step out of rounding, which differs by machine.
COMMON |= {"adam_epsilon": 1e-5}
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


def let_fsdp_run_on_a_cpu():
    """FSDP itself runs with gloo; accelerate passes it over on a CPU, and so it is refused here."""
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    from medr1kit.training import needs

    init = AcceleratorState.__init__

    def with_fsdp(self, *args, fsdp_plugin=None, **kwargs):
        init(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None:  # as for several GPUs
            self.fsdp_plugin = fsdp_plugin
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = with_fsdp
    needs._refuse_launch = lambda *_: None


def disturb(disturbance):
    """Stop or spoil the trainings that ask for it."""
    from medr1kit.training.recording import Recorder
    from medr1kit.training.saving import own_part

    log, end = Recorder.on_log, Recorder.on_step_end

    def on_log(self, args, state, control, **kwargs):
        log(self, args, state, control, **kwargs)
        if state.global_step == disturbance.get("stop_after"):
            raise KeyboardInterrupt

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == disturbance.get("spoil_after") and args.process_index == 1:
            next(part for w in model.parameters() if w.requires_grad and len(part := own_part(w)))[0] = float("nan")
        end(self, args, state, control, model=model, **kwargs)

    Recorder.on_log, Recorder.on_step_end = on_log, on_step_end


def ask(model, processor, folder):
    """What the model says of itself, and whether the run can be loaded in the same process."""
    import medr1kit as mk
    from medr1kit.vqa import DataError

    rows = mk.load_vqa("phantoms", split="val", n=4)
    try:
        mk.predict(model, processor, rows, format="no-think")
        return {"asked": None}
    except DataError as error:
        again = mk.load_model(folder)
        return {"asked": str(error), "answers": mk.predict(*again, rows, format="no-think")["text"].tolist()}


def train(folder, method, arguments, disturbance):
    import medr1kit as mk
    from medr1kit.vqa import DataError

    arguments = COMMON | METHOD[method] | arguments
    disturbance.clear()
    disturbance |= {name: arguments.pop(name) for name in ("stop_after", "spoil_after") if name in arguments}
    asked, said = arguments.pop("ask", False), {"error": None}
    rows = mk.load_vqa("phantoms", split="train", n=16, scanner="B")
    model, processor = mk.load_model(arguments.pop("model", "tiny"), dtype=arguments.pop("dtype", "float32"))
    if method == "grpo":
        arguments["rewards"] = [by_tokens]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            getattr(mk, f"train_{method}")(model, processor, rows, output_dir=folder, **arguments)
        except (DataError, KeyboardInterrupt) as error:
            said["error"] = f"{type(error).__name__}: {error}"
    said |= ask(model, processor, folder) if asked else {}
    said["warnings"] = [str(one.message) for one in told if issubclass(one.category, UserWarning)]
    Path(f"{folder}.{os.environ.get('RANK', 0)}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    trainings, disturbance = json.loads(sys.argv[1]), {}
    replay_completions()
    disturb(disturbance)
    if "ACCELERATE_USE_FSDP" in os.environ:
        let_fsdp_run_on_a_cpu()
    for training in trainings:
        train(*training, disturbance)
