"""What a training asks of this machine and of libraries, looked at before anything is loaded.

Each library tells what it lacks when it comes to it: vLLM and DeepSpeed when the trainer is built, an optimizer at the
first step, the hub at the end; after the model was loaded, in a traceback. Here is one sentence for each, first.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medr1kit.given import package_given
from medr1kit.training import checks
from medr1kit.training.publish import refuse_push
from medr1kit.vqa import DataError

# Settings that take a package, and packages whose optimizers have these words in their names.
_PACKAGES = {"use_vllm": "vllm", "use_liger_kernel": "liger_kernel", "deepspeed": "deepspeed"}
_OPTIMIZERS = {"galore": "galore_torch", "apollo": "apollo_torch", "lomo": "lomo_optim", "grokadamw": "grokadamw"}
_OPTIMIZERS |= {"schedule_free": "schedulefree", "stable": "optimi", "torch_4bit": "torchao", "torch_8bit": "torchao"}
_OPTIMIZERS |= dict.fromkeys(("8bit", "paged", "bnb", "lion", "ademamix"), "bitsandbytes")
_OPTIMIZERS |= {"anyprecision": "torchdistx", "xla": "torch_xla", "npu": "torch_npu"}
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # of torchrun and of MPI


def check_before_loading(settings: Mapping[str, Any], arguments: type, device: str) -> None:
    """Refuse, before a model is loaded, whatever its training would refuse of its arguments.

    Args:
        settings: of a training, preset and overrides together.
        arguments: :class:`trl.GRPOConfig` or :class:`trl.SFTConfig`.
        device: on which it is to run.

    Raises:
        DataError: naming the first that will not do.
    """
    checks.check_settings(settings, arguments)
    refuse_lacking(settings, device)
    if "num_generations" in settings:
        checks.check_groups(settings)
    if checks.processes() == 1 and not settings.get("deepspeed"):  # no group of processes is made twice
        checks.arguments_of(arguments, {"output_dir": ".", "use_cpu": device == "cpu", "bf16": False} | settings)


def refuse_lacking(settings: Mapping[str, Any], device: str) -> None:
    """Refuse what cannot be had here: a package, a launcher, a network, a set to evaluate on.

    Args:
        settings: of a training, by the names of :class:`trl.GRPOConfig` or :class:`trl.SFTConfig`.
        device: on which it is to run: "cpu", "cuda", "cuda:1".

    Raises:
        DataError: naming the setting and what to do.
    """
    for name, package in _PACKAGES.items():
        if settings.get(name):
            package_given(package, f"{name}={settings[name]!r}")
    optimizer = str(settings.get("optim") or "")
    if package := next((package for word, package in _OPTIMIZERS.items() if word in optimizer), None):
        package_given(package, f"optim={optimizer!r}")
    _refuse_reporters(settings.get("report_to"))
    _refuse_evaluation(settings)
    _refuse_launch(settings, device)
    if settings.get("push_to_hub"):
        refuse_push(settings)


def missing_reporters(report_to: Any) -> list[str]:
    """Return the reporters that were asked for and are not installed."""
    asked = [report_to] if isinstance(report_to, str) else list(report_to or ())
    if not set(asked) - {"none", "all"}:
        return []
    from transformers.integrations import get_available_reporting_integrations

    there = {"none", "all", "flyte", *get_available_reporting_integrations()}  # flyte is not looked for there
    return [name for name in asked if name not in there]


def _refuse_reporters(report_to: Any) -> None:
    if missing := missing_reporters(report_to):
        raise DataError(
            f"report_to={missing[0]!r} is not installed or not known; install it or leave it out: every logged number "
            "is in the run's metrics.csv, too"
        )


def _refuse_evaluation(settings: Mapping[str, Any]) -> None:
    asked = {name: settings.get(name) for name in ("eval_strategy", "eval_on_start", "load_best_model_at_end")}
    for name, value in asked.items():
        if value and str(getattr(value, "value", value)) != "no":
            raise DataError(
                f"{name}={value!r} needs a set to evaluate on during training, and there is none here; leave it out, "
                "and ask the model afterwards: predict(…), or --test_size 0.1 on the command line"
            )


def _refuse_launch(settings: Mapping[str, Any], device: str) -> None:
    """Refuse what needs more processes, or other ones, than were started."""
    environment = os.environ
    several = any(int(environment.get(name, 1)) > 1 for name in _SIZES)
    if environment.get("ACCELERATE_USE_CPU", "").lower() == "true" and "MASTER_PORT" in environment and not several:
        raise DataError(
            "`accelerate launch --cpu` was asked for several processes and has started one, which would take "
            "smaller steps; start them with torchrun --nproc_per_node=N"
        )
    if settings.get("fsdp") or environment.get("ACCELERATE_USE_FSDP", "").lower() == "true":
        if device == "cpu":
            raise DataError("FSDP is not used on a CPU: each process would hold the whole model; leave fsdp out")
        if checks.processes() < 2:
            raise DataError(
                "FSDP spreads a model over several processes, and this is one alone; start it with torchrun "
                "--nproc_per_node=N, or leave fsdp out"
            )
    config = settings.get("deepspeed")
    if isinstance(config, (str, os.PathLike)) and not Path(config).expanduser().is_file():
        raise DataError(f"deepspeed={os.fspath(config)!r} is no file; give the path of DeepSpeed's settings (JSON)")
    if config and "RANK" not in environment:
        raise DataError("DeepSpeed needs a launcher, for one process too: torchrun --nproc_per_node=1 -m medr1kit …")


def check_model(args: Any, model: Any, adapter: Any) -> None:
    """See to it that one process trains on one GPU, the model's, and that what is trained can move.

    Args:
        args: :class:`trl.GRPOConfig` or :class:`trl.SFTConfig`, changed in place where several GPUs are visible.
        model: to be trained.
        adapter: configuration of the adapter that will be trained, or None for all weights.

    Raises:
        DataError: if the model is not on the GPU that its trainer takes, or its weights are too coarse for the rate.
    """
    _take_one_gpu(args, model.device)
    half, scattered = str(model.dtype) != "torch.float32", args.deepspeed or args.fsdp  # they keep weights in float32
    if adapter is None and half and not scattered and not hasattr(model, "peft_config") and args.learning_rate < 1e-5:
        raise DataError(
            f"the weights are in {str(model.dtype).removeprefix('torch.')}, where a step of "
            f"learning_rate={args.learning_rate:g} is rounded away from most of them; load the model with "
            "dtype='float32' (bf16=True still computes in bfloat16), or train an adapter"
        )


def _take_one_gpu(args: Any, device: Any) -> None:
    """TRL refuses a process that would spread over all GPUs it sees; this one takes the first, and says so."""
    if checks.processes() > 1 or args.n_gpu < 1:
        return
    if device.type == "cuda" and (device.index or 0) != 0:
        raise DataError(
            f"the model is on {device}, and a training takes the first GPU that its process sees: start the process "
            f"with CUDA_VISIBLE_DEVICES={device.index}, and load the model without device="
        )
    if args.n_gpu > 1:
        import torch

        name = f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device
        warnings.warn(
            f"{args.n_gpu} GPUs are visible, and one process trains on one: {name}; torchrun "
            f"--nproc_per_node={args.n_gpu} starts one for each",
            stacklevel=4,
        )
        args._n_gpu = 1  # what transformers itself sets where a model must not be copied to each GPU
        if getattr(args, "beta", 0):  # nor is the reference of the KL term to be cut into parts on all of them
            args.model_init_kwargs = {"device_map": None} | (args.model_init_kwargs or {})
