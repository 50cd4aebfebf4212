"""What training writes down: every logged step, every sampled completion, and what it takes to repeat the run."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import sys
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medr1kit.models.load import base_of
from medr1kit.progress import progress
from medr1kit.results.runs import RunWriter
from medr1kit.rewards import text_of
from medr1kit.vqa import parse_solution

if TYPE_CHECKING:
    from datasets import Dataset


def recording(trainer: type) -> type:
    """Return a GRPO trainer that also writes every sampled completion to the run and watches for gamed rewards.

    Its attributes ``response_format``, ``recorder`` and ``watch`` are set after it is built.

    Args:
        trainer: :class:`trl.GRPOTrainer` or a subclass.
    """
    from accelerate.utils import gather_object

    class RecordingGRPOTrainer(trainer):
        def _generate_and_score_completions(self, inputs):
            output = super()._generate_and_score_completions(inputs)
            rows = gather_object(self._rollouts(inputs, output))
            if self.accelerator.is_main_process:
                self.recorder.writer.rollout_rows(rows)
                columns, news = self.watch.step(rows)
                for name, number in columns.items():
                    self._metrics["train"][name].append(number)
                for sentence in news:
                    warnings.warn(sentence, stacklevel=2)
            return output

        def _rollouts(self, inputs, output) -> list[dict]:
            """This process's completions as rows; TRL's own logs hold those of all processes, in rank order."""
            n, rank, world = len(inputs), self.accelerator.process_index, self.accelerator.num_processes
            first = len(self._logs["completion"]) - n * (world - rank)
            mine = slice(first, first + n)
            texts = [text_of(completion) for completion in list(self._logs["completion"])[mine]]
            rewards = {name: list(values)[mine] for name, values in self._logs["rewards"].items()}
            advantages = list(self._logs["advantages"])[mine]
            kept = output["completion_mask"].bool()  # (n, tokens)
            tokens = [ids[mask].tolist() for ids, mask in zip(output["completion_ids"], kept)]
            return [
                self._rollout(
                    *(source, i % self.num_generations, texts[i], tokens[i]),
                    *({name: values[i] for name, values in rewards.items()}, advantages[i]),
                )
                for i, source in enumerate(inputs)
            ]

        def _rollout(self, source, number, text, tokens, rewards, advantage, used=True) -> dict:
            """One completion as a row of the run's rollouts."""
            options = source.get("options")
            row = {"step": self.state.global_step + 1, "id": source.get("id"), "rollout": number}
            row |= {name: source.get(name) for name in ("question", "options")}
            row |= {"answer": parse_solution(source["solution"])}
            row |= {name: source.get(name) for name in ("modality", "task")}
            row |= {"text": text, "predicted": self.response_format.parse(text, options).answer}
            row |= {name: None if math.isnan(value) else value for name, value in rewards.items()}
            ended = bool(tokens) and tokens[-1] in self.eos_token_ids
            row |= {"advantage": advantage, "n_tokens": len(tokens), "truncated": not ended, "used": used}
            return row

    return RecordingGRPOTrainer


def recorder_callback(title: str) -> Any:
    """A callback that writes each logged step to the run and shows one progress bar."""
    from transformers import TrainerCallback

    class Recorder(TrainerCallback):
        writer: RunWriter | None = None
        bar: Any = None

        def on_train_begin(self, args, state, control, **kwargs):
            hidden = not state.is_world_process_zero
            self.bar = progress(None, title, total=state.max_steps, unit="step", delay=0, hidden=hidden)

        def on_log(self, args, state, control, logs=None, **kwargs):
            if self.writer is None or logs is None or "train_runtime" in logs:
                return
            self.writer.metrics_row({"step": state.global_step, **logs})
            shown = {name: logs[name] for name in ("reward", "loss") if isinstance(logs.get(name), int | float)}
            self.bar.set_postfix({name: f"{value:.3g}" for name, value in shown.items()}, refresh=False)

        def on_step_end(self, args, state, control, **kwargs):
            self.bar.update(state.global_step - self.bar.n)

        def on_train_end(self, args, state, control, **kwargs):
            self.bar.close()

    return Recorder()


def run_config(method, model, dataset, format, args, adapter, seed) -> dict[str, Any]:
    """Everything needed to repeat the run, as it goes to run.json."""
    names = {
        column: [name for name in dict.fromkeys(dataset[column]) if name] for column in ("modality", "task", "source")
    }
    base = base_of(model)
    name = getattr(base, "medr1kit_name", base.config._name_or_path)  # what to load; the label is where it began
    origin = getattr(base, "medr1kit_labels", {}).get("model", name)
    if adapter is None and hasattr(model, "peft_config"):
        adapter = model.peft_config["default"]
    trained_on = {
        f"train_{column}": found[0] if len(found) == 1 else "all"
        for column, found in names.items()
        if column != "source"
    }
    packages = ("medr1kit", "torch", "transformers", "trl", "peft", "datasets")
    return {
        "method": method,
        "model": name,
        "format": format.name,
        "seed": seed,
        "labels": {"model": origin, "method": method, "seed": seed, **trained_on},
        "continued_from": getattr(base, "medr1kit_run", None),
        "data": {"rows": len(dataset), "fingerprint": fingerprint(dataset), **names},
        "lora": adapter.to_dict() if adapter is not None else None,
        "arguments": args.to_dict(),
        "versions": {"python": sys.version.split()[0], **{name: importlib.metadata.version(name) for name in packages}},
        "command": sys.argv,
    }


def fingerprint(dataset: Dataset) -> str:
    """Return a digest of a data set's ids, image ids, problems and solutions, in order; pixels are not read."""
    digest = hashlib.sha256()
    for row in dataset.select_columns(["id", "image_id", "problem", "solution"]):
        digest.update(repr(tuple(row.values())).encode())
    return digest.hexdigest()[:16]


def model_card(config: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    """Return a short model card of the run."""
    data, trained = config["data"], "LoRA adapter" if config["lora"] else "all weights"
    known = {name: ", ".join(data[name]) or "unknown" for name in ("modality", "task")}
    return f"""# {config["method"].upper()} of {config["model"]}, {config["format"]} format

Trained with medr1kit {config["versions"]["medr1kit"]} ({trained}, seed {config["seed"]}) on {data["rows"]} questions
(modality: {known["modality"]}; task: {known["task"]}; fingerprint {data["fingerprint"]}) in
{metrics.get("train_runtime", float("nan")):.0f} s.

Load it with `medr1kit.load_model(FOLDER)`. All arguments are in `run.json`, curves in `metrics.csv`.

For research and teaching. Not for clinical use.
"""
