"""Decoding with fixed shapes, as a GPU records it: the same rollouts as with growing ones. Recording needs a GPU."""

import pytest
import torch
from shared_prefix_cases import adapted, conversations, core_of, head_of

from medr1kit.models.shared_prefix.decoder import Decoder
from medr1kit.models.shared_prefix.graphs import StaticDecoder, decoder_on
from medr1kit.models.shared_prefix.prompts import prefill, read_prompts
from medr1kit.models.shared_prefix.sampling import sample
from medr1kit.models.shared_prefix.vision import VisionFeatures


def rollouts(decoder, model, processor, rows, new_tokens=24):
    prompts = read_prompts(processor, core_of(model), conversations(rows))
    prefix = prefill(core_of(model), prompts, VisionFeatures(core_of(model))).detach()
    torch.manual_seed(3)
    ends = list(range(0, len(processor.tokenizer), 9))  # so that rows end early and at different times
    settings = {"max_new_tokens": new_tokens, "end_tokens": ends, "record": True}
    return sample(decoder(core_of(model).language_model, head_of(model)), prefix, prompts.of_row, **settings)


def same_rollouts(model, processor, rows, tolerance=1e-5):
    model = adapted(model, merger=True)
    growing, fixed = (rollouts(decoder, model, processor, rows) for decoder in (Decoder, StaticDecoder))
    assert fixed.tokens == growing.tokens and len({len(tokens) for tokens in fixed.tokens}) > 2
    torch.testing.assert_close(fixed.log_probs, growing.log_probs, atol=tolerance, rtol=tolerance)


def test_fixed_shapes_give_the_same_rollouts(fresh_tiny, train_phantoms):
    same_rollouts(*fresh_tiny, list(train_phantoms.select(range(3))), tolerance=1e-4)  # large logits: float32 is coarse


def test_fixed_shapes_give_the_same_rollouts_on_the_other_architectures(micro, train_phantoms):
    same_rollouts(*micro, list(train_phantoms.select(range(3))))


def test_the_tensors_stay_where_they_are(fresh_tiny, train_phantoms, monkeypatch):
    model, processor = fresh_tiny
    seen = []
    step = StaticDecoder._forward

    def noted(self, state):
        tensors = (self._tokens, self._place, state.position, state.visible, *state.keys, *state.values)
        seen.append([(tensor.data_ptr(), tensor.shape) for tensor in tensors])
        return step(self, state)

    monkeypatch.setattr(StaticDecoder, "_forward", noted)
    rollouts(StaticDecoder, adapted(model), processor, list(train_phantoms.select(range(3))))
    assert len(seen) > 5 and all(place == seen[0] for place in seen)


def test_a_recording_that_fails_is_told_once_and_the_step_runs_on(fresh_tiny, train_phantoms, monkeypatch):
    model, processor = fresh_tiny
    rows = list(train_phantoms.select(range(3)))
    expected = rollouts(Decoder, adapted(model), processor, rows)
    start = StaticDecoder.start

    def as_on_a_gpu(self, *args, **kwargs):
        state = start(self, *args, **kwargs)
        self._recordable = True
        return state

    monkeypatch.setattr(StaticDecoder, "start", as_on_a_gpu)
    with pytest.warns(UserWarning, match="not recorded in a CUDA graph") as told:
        found = rollouts(StaticDecoder, model, processor, rows)
    assert found.tokens == expected.tokens and len(told) == 1


def test_graphs_are_used_on_a_gpu_only_where_they_are_asked_for(monkeypatch):
    monkeypatch.delenv("MEDR1KIT_CUDA_GRAPHS", raising=False)
    assert decoder_on(torch.device("cuda")) is Decoder
    monkeypatch.setenv("MEDR1KIT_CUDA_GRAPHS", "1")
    assert decoder_on(torch.device("cuda")) is StaticDecoder and decoder_on(torch.device("cpu")) is Decoder
