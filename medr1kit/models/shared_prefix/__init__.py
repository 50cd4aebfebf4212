"""The fast, exact GRPO step: what the rows of a group share is computed once.

A group's rows have their image and prompt in common, often the first words, sometimes everything. Each is computed once
and continued from there: the same tokens, gradients and answers as transformers and TRL give, several times sooner.

Read in this order: :mod:`~medr1kit.models.shared_prefix.vision` (features once an image),
:mod:`~medr1kit.models.shared_prefix.products` and :mod:`~medr1kit.models.shared_prefix.layers` (a language model's
layers in few products),
:mod:`~medr1kit.models.shared_prefix.prompts` (keys and values once a prompt),
:mod:`~medr1kit.models.shared_prefix.decoder` and :mod:`~medr1kit.models.shared_prefix.sampling` (rollouts; on a GPU,
where asked for, through :mod:`~medr1kit.models.shared_prefix.graphs`),
:mod:`~medr1kit.models.shared_prefix.scoring` (log-probabilities with gradients) and
:mod:`~medr1kit.models.shared_prefix.packing` (the same under gradient checkpointing). Then
:mod:`~medr1kit.training.shared_trainer` puts them into TRL's trainer, where :mod:`~medr1kit.training.trainers` allows
it, and :mod:`~medr1kit.models.shared_prefix.answering` uses them to evaluate.
"""
