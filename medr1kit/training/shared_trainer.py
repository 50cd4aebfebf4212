"""TRL's GRPO trainer with every prompt read once: the same gradients, several times sooner.

Stock TRL repeats each prompt G times before anything else, so that at G = 8 the vision tower sees an image 24 times a
step and the prompt goes through the language model 24 times (sampling, reference, loss). Here a group shares both:

===============  ==============================================  ===================================
phase            stock TRL                                       here
===============  ==============================================  ===================================
preprocessing    every row, twice                                every distinct image once
vision tower     rows x 3                                        new images (frozen tower), see vision
sampling         all rows until the last one has ended           finished rows leave (or vLLM samples)
loss, reference  prompt and completion of every row, padded      prompts once, distinct completions
                                                                 in buckets of similar length
===============  ==============================================  ===================================

TRL's loop, rewards, advantages and loss are its own; its methods are overridden where they read prompts, sample or
score. Most of these are private, and nobody promised to keep them: this is the one file that overrides TRL. Whether
sharing would be exact, and whether TRL is still what this was written for, is asked before a trainer is built, in
:func:`medr1kit.training.trainers.trainer_class`; this one has no way back.

A subclass may decide what is trained on: :meth:`SharedPrefixGRPOTrainer.chosen` is asked for the rows of a step and can
:meth:`~SharedPrefixGRPOTrainer.draw` completions of any; :meth:`~SharedPrefixGRPOTrainer.sampled` and
:meth:`~SharedPrefixGRPOTrainer.rewarded` hand the step its completions and their rewards.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import Any

import torch
from datasets import Dataset
from torch import nn
from trl import GRPOTrainer
from trl.data_utils import prepare_multimodal_messages
from trl.models.utils import unwrap_model_for_generation

from medr1kit.models.load import base_of
from medr1kit.models.shared_prefix.decoder import Decoder
from medr1kit.models.shared_prefix.graphs import StaticDecoder, graphs_asked
from medr1kit.models.shared_prefix.packing import score_packed
from medr1kit.models.shared_prefix.prompts import Prefix, Prompts, prefill, read_prompts, words_and_image
from medr1kit.models.shared_prefix.sampling import Rollouts, as_generate, most_probable, sample, settled
from medr1kit.models.shared_prefix.scoring import score
from medr1kit.models.shared_prefix.vision import VisionFeatures
from medr1kit.training.stand_ins import OnceDecoded, ReadAlready, by_prompt, let_through
from medr1kit.training.telemetry import Telemetry


class _Network:
    """A model in the parts that are called one by one."""

    def __init__(self, model: nn.Module):
        base = base_of(model)
        self.core, self.head, self.vision = base.model, base.get_output_embeddings(), VisionFeatures(base.model)


class SharedPrefixGRPOTrainer(GRPOTrainer):
    """A :class:`trl.GRPOTrainer` for Qwen-VL models that shares what the rows of a group have in common.

    Attributes:
        telemetry: what the steps since the last log cost; it goes to the log.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.telemetry = Telemetry()
        policy = self.accelerator.unwrap_model(self.model)
        self._policy = self._reference = _Network(policy)
        if self.ref_model is not None:
            self._reference = _Network(self.accelerator.unwrap_model(self.ref_model))
            if not self.args.sync_ref_model:
                self._reference.vision.trained = "nothing"
        self._processor = self.processing_class
        self._prompts_of: dict[str, Prompts] = {}  # of the last batch in "train" and in "eval"
        self._prefix: Prefix | None = None  # read for sampling, with its graph, when the loss can use it
        self._drawn: Rollouts | None = None
        self._known: tuple | None = None  # log-probabilities and entropies (rows, tokens) by the weights of now
        self._recorded: StaticDecoder | None = None
        self._inputs: dict[str, Any] | None = None  # the micro-batch whose loss is computed
        self._image_checked = False
        if self.accelerator.num_processes > 1:
            let_through(policy)

    @property
    def _prompts(self) -> Prompts:
        """The prompts to which the rows now at hand belong; an evaluation may come between steps on one batch."""
        return self._prompts_of["train" if self.model.training else "eval"]

    # Reading prompts

    def _get_dataloader(self, dataset, *args, **kwargs):
        read = OnceDecoded(dataset) if isinstance(dataset, Dataset) else dataset  # a stream is repeated by TRL itself
        return super()._get_dataloader(read, *args, **kwargs)

    def _generate_and_score_completions(self, inputs):
        inputs = self.chosen(inputs) if self.model.training else inputs
        self._prefix = None
        self.processing_class = ReadAlready(self._processor)  # TRL would preprocess every row's image again
        try:
            output = super()._generate_and_score_completions(inputs)
        finally:
            self.processing_class = self._processor
        output["prompt_of_row"] = self._prompts.of_row
        if self._zero_advantage_is_no_gradient():
            output["known_log_probs"], output["known_entropies"] = self._known
        return output

    def _tokenize_prompts(self, prompts):
        template = {"chat_template": self.chat_template, **self.chat_template_kwargs}
        with self._phase("prompts"):
            read = read_prompts(self._processor, self._policy.core, prompts, **template)
        self._prompts_of["train" if self.model.training else "eval"] = read
        return read.token_lists(), [[words_and_image(prompt)[1]] for prompt in prompts], {}

    def _prepare_inputs(self, generation_batch):
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if self._buffered_inputs is before or not self._groups_can_stay_together():
            return inputs
        self._buffered_inputs = by_prompt(self._buffered_inputs)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _groups_can_stay_together(self) -> bool:
        """Whether it does not matter how the rows of a step are cut into micro-batches: its gradient is their sum."""
        # What is normalised or ranked within a micro-batch:
        within = self.loss_type == "bnpo" or self._entropy_bonus_enabled or self.top_entropy_quantile < 1
        return not within and 1 < self.args.steps_per_generation == self.current_gradient_accumulation_steps

    # Sampling

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations, has_tool_images=False):
        if not self._image_checked:
            self._check_image_matters()
        if self.args.use_vllm:
            with self._phase("decode"):
                drawn = super()._generate_single_turn(prompt_ids, images, multimodal_fields, num_generations)
            self._count_tokens(drawn[0])
            return drawn
        settings = {"generation_kwargs": self.generation_kwargs}
        settings |= {"gradient_checkpointing_kwargs": self.args.gradient_checkpointing_kwargs}
        with unwrap_model_for_generation(self.model_wrapped, self.accelerator, **settings) as model:
            with self._phase("prefill"), torch.set_grad_enabled(self._graph_serves_loss()):
                prefix = prefill(self._policy.core, self._prompts, self._policy.vision)
            self._prefix = prefix if self._graph_serves_loss() else None
            with self._phase("decode"):
                self._drawn = self.sampled(model, prefix.detach())
        self._known = self._drawn.log_probs, self._drawn.entropies
        return self._drawn.tokens, None

    def sampled(self, model: nn.Module, prefix: Prefix) -> Rollouts:
        """Return a completion of each row, which continues its prompt."""
        base = base_of(model)
        settings, processors = settled(base, self.generation_config, prefix.input_ids.shape[1])
        decoder = self._decoder(base.device, prefix)
        ends = {"max_new_tokens": settings.max_new_tokens, "end_tokens": self.eos_token_ids}
        draw = as_generate if settings.do_sample else most_probable
        choice = {"processors": processors, "draw": draw, "temperature": self.temperature}
        record = self._zero_advantage_is_no_gradient()
        drawn = sample(decoder, prefix, self._prompts.of_row, **ends, **choice, record=record)
        self._count_tokens(drawn.tokens)
        return drawn

    def _count_tokens(self, completions: list[list[int]]) -> None:
        if self.model.training:
            self.telemetry.counts["tokens"] += sum(map(len, completions))

    def _decoder(self, device: torch.device, prefix: Prefix) -> Decoder:
        """A decoder with the weights of now; one whose step is recorded stays for the run."""
        parts = self._policy.core.language_model, self._policy.head
        if not graphs_asked(device):
            return Decoder(*parts, prefix.layers)
        if self._recorded is None:
            self._recorded = StaticDecoder(*parts)
        self._recorded.renew()
        return self._recorded

    def _graph_serves_loss(self) -> bool:
        """Whether the loss will continue these very prompts with these very weights, in one backward pass."""
        plain = self.accelerator.mixed_precision == "no" and not self.args.gradient_checkpointing
        alone = self.args.steps_per_generation == self.num_iterations == self.accelerator.num_processes == 1
        return self.model.training and torch.is_grad_enabled() and plain and alone

    # What a subclass may decide

    def chosen(self, inputs: list[dict]) -> list[dict]:
        """Return the rows to train on, a row a completion, from those that are next; it is asked once a batch."""
        return inputs

    def rewarded(self, inputs, prompts, completions, completion_ids_list) -> torch.Tensor:
        """Return what completions earn: (rows, reward functions), nan where a function does not apply."""
        return super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)

    def draw(self, rows: list[dict]) -> tuple[list[int], Rollouts, torch.Tensor, dict[str, list]]:
        """Sample and reward a completion of each row, apart from the step that is to come.

        Returns:
            Of each row the tokens of its prompt, its completion, its rewards (rows, reward functions), and the columns
            that the reward functions logged.
        """
        prompts = [prepare_multimodal_messages(row["prompt"], images=[row["image"]]) for row in rows]
        with torch.no_grad():
            prompt_ids, *_ = self._tokenize_prompts(prompts)
            tokens, _ = self._generate_single_turn(prompt_ids, None, {}, self.num_generations)
            texts = self._processor.batch_decode(tokens, skip_special_tokens=True)
            completions = [[{"role": "assistant", "content": text}] for text in texts]
            rewards = self._calculate_rewards(rows, prompts, completions, tokens)
        columns, self._pending_extra_logs = self._pending_extra_logs, defaultdict(list)
        return [len(ids) for ids in prompt_ids], self._drawn, rewards, columns

    def log_extra(self, column: str, values: list) -> None:
        """Log a value a completion of the step, as reward functions do."""
        self._log_completion_extra(column, values)

    def log_metric(self, name: str, value: float) -> None:
        """Log a number of the step, as reward functions do."""
        self._log_metric(name, value)

    # Scoring

    def _compute_loss(self, model, inputs):
        self._inputs = inputs
        try:
            return super()._compute_loss(model, inputs)
        finally:
            self._inputs = self._prefix = None

    def _zero_advantage_is_no_gradient(self) -> bool:
        """Whether rows of advantage 0 can be left out: no other term in the loss, and the weights that drew them."""
        steps_with_a_batch = self.args.steps_per_generation * self.num_iterations
        same_weights = self.args.gradient_accumulation_steps % steps_with_a_batch == 0  # as TRL decides it
        # Those are not vLLM's, which rounds otherwise, but TRL's correction has them computed anew.
        known = not self.args.use_vllm or self.vllm_importance_sampling_correction
        alone = self.beta == 0 and not self._entropy_bonus_enabled and self.top_entropy_quantile == 1
        return same_weights and known and alone

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, *_, **__
    ):
        ids, mask = input_ids[:, -logits_to_keep:], attention_mask[:, -logits_to_keep:]  # (rows, completion tokens)
        loss = self._inputs is not None
        rows = self._inputs["prompt_of_row"] if loss else self._prompts.of_row
        network = self._reference if model is self.ref_model else self._policy
        size = len(ids) if loss else batch_size or len(ids)
        parts = []
        with self._phase("loss" if loss else "reference"), self.accelerator.autocast():
            for chunk in torch.arange(len(ids), device=ids.device).split(size):
                call = partial(self._score, network, rows[chunk], ids[chunk], mask[chunk])
                # Beside the wrapper's forward pass DDP would never sum the gradients of the ranks.
                inside = loss and self.accelerator.num_processes > 1
                parts.append(model(shared_prefix=call) if inside else call())
        logps, entropies = (torch.cat(numbers) for numbers in zip(*parts))
        if not loss:
            self._known = logps, entropies  # the reference's, too, which nobody asks for
        return logps, entropies if compute_entropy else None, None

    def _score(self, network: _Network, rows, ids, mask) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probabilities and entropies (rows, tokens); of rows that need no gradient, those known already."""
        if self._inputs is None or "known_log_probs" not in self._inputs:
            return self._score_all(network, rows, ids, mask)
        logps, entropies = self._inputs["known_log_probs"], self._inputs["known_entropies"]
        needed = self._inputs["advantages"].nonzero().squeeze(1)
        if len(needed):
            scored = self._score_all(network, rows[needed], ids[needed], mask[needed])
            logps, entropies = (t.index_copy(0, needed, new) for t, new in zip((logps, entropies), scored))
        else:
            logps = logps + 0 * sum(weight.sum() for weight in self.model.parameters() if weight.requires_grad)
        return logps, entropies

    def _score_all(self, network: _Network, rows, ids, mask) -> tuple[torch.Tensor, torch.Tensor]:
        settings = {"temperature": self.temperature, "entropy_gradient": self._entropy_bonus_enabled}
        if self._prefix is not None and network is self._policy and torch.is_grad_enabled():
            return score(network.core, network.head, self._prefix, rows, ids, mask, **settings)
        present, places = rows.unique(return_inverse=True)
        prompts = self._prompts.select(present)
        if network.core.training and getattr(network.core.language_model, "gradient_checkpointing", False):
            return score_packed(network.core, network.head, network.vision, prompts, places, ids, mask, **settings)
        prefix = prefill(network.core, prompts, network.vision)
        return score(network.core, network.head, prefix, places, ids, mask, **settings)

    # Guards and telemetry

    def _check_image_matters(self) -> None:
        """Once, before the first rollouts: another image must change what the model would say."""
        pairs = combinations(enumerate(self._prompts.images), 2)  # two that take the same number of tokens
        same_size = ((i, j) for (i, a), (j, b) in pairs if a.digest != b.digest and torch.equal(a.grid, b.grid))
        if (pair := next(same_size, None)) is None:
            return  # wait for a batch that has two
        self._image_checked = True
        two = self._prompts.select(self._prompts.of_row.new_tensor(pair))
        with torch.no_grad():
            right, wrong = (
                prefill(self._policy.core, replace(two, images=shown), self._policy.vision).last_hidden
                for shown in (two.images, two.images[::-1])
            )
        if torch.equal(right, wrong):
            warnings.warn(
                "swapping the images of a batch leaves the model's next word as it is: it does not see them; look for "
                "prompts without image placeholder or a vision tower without weights",
                stacklevel=2,
            )

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        with self._phase("rewards"):
            return self.rewarded(inputs, prompts, completions, completion_ids_list)

    def training_step(self, model, inputs, num_items_in_batch):
        with self._phase("backward"):  # what is left of the step when its other phases are taken out
            loss = super().training_step(model, inputs, num_items_in_batch)
        self.telemetry.steps += self._step % self.current_gradient_accumulation_steps == 0
        return loss

    def _phase(self, name: str) -> AbstractContextManager:
        """Time a phase of a training step; an evaluation is no part of one."""
        return self.telemetry.phase(name) if self.model.training else nullcontext()

    def log(self, logs, start_time=None):
        vision = self._policy.vision
        if self.model.training and "loss" in logs:
            self.telemetry.counts |= {"images_encoded": vision.encoded, "images_remembered": vision.found}
            logs = {**logs, **self.telemetry.columns()}
        vision.encoded = vision.found = 0  # those of an evaluation are no step's
        super().log(logs, start_time)
