"""What the tests of shared_prefix have in common: ragged batches, adapters that do something, stock TRL."""

from __future__ import annotations

from copy import deepcopy
from functools import partial

import torch

import medr1kit as mk
from medr1kit.models.adapters import lora
from medr1kit.models.load import image_token_ids

COUNTS = (3, 1, 4)  # rows a prompt: groups need not be whole, as on one of several processes
LENGTHS = (5, 1, 12, 7, 12, 12, 1, 3)  # completion tokens a row
WIDTH = max(LENGTHS)


def adapted(model, merger=False, tower=False, seed=1):
    """The model with LoRA whose second factor is not zero, so that the adapter changes what the model says."""
    from peft import get_peft_model

    torch.manual_seed(seed)
    model = get_peft_model(model, lora(rank=4, alpha=8, merger=merger, tower=tower))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    return model.train()


def base_of(model):
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def core_of(model):
    return base_of(model).model


def head_of(model):
    return base_of(model).lm_head


def conversations(rows, sizes=(None, (160, 96), None)):
    """Three prompts of different length, the middle one about a wide picture, repeated by COUNTS."""
    found = []
    for row, words, size, count in zip(rows, (0, 40, 7), sizes, COUNTS):
        picture = row["image"] if size is None else row["image"].resize(size)
        text = mk.NO_THINK.prompt(row["problem"]) + " again" * words
        turn = {"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": text}]}
        found += [[turn]] * count
    return found


def padded(processor, asked):
    """The prompts of all rows with their pixels, left-padded, as TRL prepares them."""
    texts = processor.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    pictures = [[conversation[0]["content"][0]["image"]] for conversation in asked]
    return processor(text=texts, images=pictures, padding=True, padding_side="left", return_tensors="pt")


def completions(model, processor, asked, seed=0):
    """Sampled completions cut to LENGTHS, two of the last group equal: ids and mask, (rows, WIDTH) each."""
    inputs = padded(processor, asked)
    torch.manual_seed(seed)
    plain = {"do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": 1.0, "repetition_penalty": 1.0}
    suppressed = [processor.tokenizer.eos_token_id, *image_token_ids(base_of(model))]
    output = model.generate(**inputs, max_new_tokens=WIDTH, suppress_tokens=suppressed, **plain)
    ids = output[:, inputs["input_ids"].shape[1] :]
    ids[5] = ids[4]
    mask = (torch.arange(WIDTH) < torch.tensor(LENGTHS)[:, None]).long()
    return ids * mask, mask


def stock_inputs(processor, asked, ids, mask):
    """What TRL feeds the model: prompt and completion of every row, padded, with its pixels."""
    inputs = padded(processor, asked)
    kinds = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(ids)], dim=1)
    return {
        "input_ids": torch.cat([inputs["input_ids"], ids], dim=1),
        "attention_mask": torch.cat([inputs["attention_mask"], mask], dim=1),
        "pixel_values": inputs["pixel_values"],
        "image_grid_thw": inputs["image_grid_thw"],
        "mm_token_type_ids": kinds,
        "num_images": [1] * len(asked),
    }


class Stock:
    """TRL's own scoring on a bare model, without a trainer around it."""

    def __init__(self, model, temperature=1.0):
        from accelerate import Accelerator
        from trl.trainer.utils import add_fused_lm_head

        self.accelerator = Accelerator(cpu=True)
        self.model = model
        add_fused_lm_head(base_of(model), temperature=temperature, outputs=("log_probs", "entropy"))

    def score(self, processor, asked, ids, mask):
        """Log-probabilities and entropies of TRL, (rows, tokens) each, 0 after the end."""
        from trl import GRPOTrainer

        inputs = stock_inputs(processor, asked, ids, mask)
        logps, entropies, _ = GRPOTrainer._get_per_token_logps_and_entropies.__wrapped__(
            self, self.model, logits_to_keep=ids.shape[1], compute_entropy=True, **inputs
        )
        return logps * mask, entropies * mask


def in_double(model):
    """The model in float64, its norms too, which round to float32 otherwise."""
    model = deepcopy(model).double()
    for norm in (part for part in model.modules() if hasattr(part, "variance_epsilon")):
        norm.forward = partial(plain_norm, norm)
    return model


def plain_norm(norm, hidden):
    return norm.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)


def gradients(model):
    return {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}


def relative(ours, theirs):
    """Norm of the difference over the norm of the second, of tensors or of mappings of tensors taken as one vector."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        ours, theirs = (torch.cat([t[name].flatten() for name in theirs]) for t in (ours, theirs))
    return ((ours - theirs).norm() / theirs.norm()).item()


def odd_tokens(completion_ids, **_):
    """A reward that needs no skill: how many of the first tokens have an odd id, so that some rows of a group tie."""
    return [float(sum(token % 2 for token in ids[:3])) for ids in completion_ids]


def trainer_of(kind, model, processor, rows, folder, *, rewards=odd_tokens, eval_dataset=None, adapter=None, **changes):
    """A trainer of two small steps by plain gradient descent, so that weights move as gradients say.

    Adam would turn gradients of the size of rounding errors into steps of full size. With ``adapter``, a configuration,
    the trainer puts a new adapter on the model, and the model without it is the reference.
    """
    from transformers import PrinterCallback
    from trl import GRPOConfig, GRPOTrainer

    from medr1kit.training.trainers import trainer_class

    settings = {"max_steps": 2, "per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 6}
    settings |= {"learning_rate": 0.1, "lr_scheduler_type": "constant", "optim": "sgd", "max_grad_norm": 0.0}
    settings |= {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "logging_steps": 1, "seed": 3}
    settings |= {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "dataloader_pin_memory": False}
    settings |= {"generation_kwargs": {"suppress_tokens": image_token_ids(base_of(model))}}
    args = GRPOConfig(output_dir=str(folder), **(settings | changes))
    kind, not_shared = (kind, None) if kind is GRPOTrainer else trainer_class(model, args, rows, adapter)
    made = kind(
        model=model,
        reward_funcs=rewards,
        args=args,
        train_dataset=rows,
        eval_dataset=eval_dataset,
        processing_class=processor,
        peft_config=adapter,
    )
    made.remove_callback(PrinterCallback)
    made.texts, made.not_shared = [], not_shared
    score = made._generate_and_score_completions

    def noting(inputs):
        output = score(inputs)
        made.texts.append(sorted(map(tuple, (output["completion_ids"] * output["completion_mask"]).tolist())))
        return output

    made._generate_and_score_completions = noting
    return made


def stock_and_shared(load, prepare, rows, folder, **changes):
    """Train two equal models, the first by TRL's trainer: of each the trainer, and its weights before and after."""
    from trl import GRPOTrainer

    from medr1kit.training.shared_trainer import SharedPrefixGRPOTrainer

    for kind in (GRPOTrainer, SharedPrefixGRPOTrainer):
        model, processor = load()
        trainer = trainer_of(kind, prepare(model), processor, rows, folder, **changes)
        before = weights(trainer.model)
        trainer.train()
        yield trainer, before, weights(trainer.model)


def logged(trainer):
    """What was logged a step, clocks and what only we log apart."""
    ours = ("time/", "count/", "tokens_per_second", "peak_memory_gb", "step_time", "eval_")
    steps = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [{name: value for name, value in entry.items() if not name.startswith(ours)} for entry in steps]


def weights(model):
    return {name: w.detach().clone() for name, w in model.named_parameters() if w.requires_grad}


def with_prompts(rows, form=mk.NO_THINK):
    """Rows as TRL takes them: prompts of different length, every third about a wide picture."""
    from datasets import Dataset

    texts = [form.prompt(row["problem"]) + " again" * (7 * i) for i, row in enumerate(rows)]
    pictures = [row["image"].resize((160, 96)) if i % 3 == 2 else row["image"] for i, row in enumerate(rows)]
    return Dataset.from_dict({"prompt": [[{"role": "user", "content": text}] for text in texts], "image": pictures})
