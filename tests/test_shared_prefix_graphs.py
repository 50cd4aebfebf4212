"""Decoding with fixed shapes, as a GPU records it: the same rollouts as with growing ones. Recording needs a GPU."""

import pytest
import torch
from shared_prefix_cases import adapted, conversations, core_of, head_of

from medr1kit.models.machine import choose_decoding
from medr1kit.models.shared_prefix.decoder import Decoder
from medr1kit.models.shared_prefix.graphs import StaticDecoder, graphs_asked
from medr1kit.models.shared_prefix.prompts import prefill, read_prompts
from medr1kit.models.shared_prefix.sampling import by_share, sample
from medr1kit.models.shared_prefix.vision import VisionFeatures


@pytest.fixture(scope="module")
def rows(train_phantoms):
    return list(train_phantoms.select(range(9)))


def kept(model, record=None):
    return StaticDecoder(core_of(model).language_model, head_of(model), record=record)


def hotter(_, logits):
    return logits / 4


def rollouts(decoder, model, processor, rows, new_tokens=24, **settings):
    """24 tokens at most of each of eight rows; hot, every ninth token ends one: rows end at different times."""
    if decoder is None:
        decoder = Decoder(core_of(model).language_model, head_of(model))
    prompts = read_prompts(processor, core_of(model), conversations(rows))
    prefix = prefill(core_of(model), prompts, VisionFeatures(core_of(model))).detach()
    torch.manual_seed(2)
    ends = list(range(0, len(processor.tokenizer), 9))
    settings = {"max_new_tokens": new_tokens, "end_tokens": ends, "record": True, "processors": hotter} | settings
    return sample(decoder, prefix, prompts.of_row, **settings), torch.rand(1)


def same(found, expected, tolerance=1e-5):
    """Tokens, what was thought of them, and the random numbers that come next."""
    (fixed, after), (growing, after_growing) = found, expected
    assert fixed.tokens == growing.tokens and torch.equal(after, after_growing)
    if growing.log_probs is not None:
        torch.testing.assert_close(fixed.log_probs, growing.log_probs, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(fixed.entropies, growing.entropies, atol=tolerance, rtol=tolerance)


def test_looking_at_eight_tokens_at_a_time_gives_the_same_rollouts(fresh_tiny, rows):
    model, processor = fresh_tiny
    adapted(model, merger=True)
    found, expected = (rollouts(one, model, processor, rows[:3]) for one in (kept(model), None))
    same(found, expected, tolerance=1e-4)  # large logits: float32 is coarse
    lengths = {len(tokens) for tokens in found[0].tokens}
    assert len(lengths) > 2 and max(lengths) == 14 and found[0].steps == 15  # two were drawn for nothing


def test_it_does_on_the_other_architectures(micro, rows):
    model, processor = micro
    adapted(model, merger=True)
    same(*(rollouts(one, model, processor, rows[:3]) for one in (kept(model), None)))


@pytest.mark.parametrize("changes", [{"new_tokens": 1}, {"new_tokens": 8}, {"end_tokens": [], "new_tokens": 11}])
def test_it_does_at_any_length(fresh_tiny, rows, changes):
    model, processor = fresh_tiny
    same(*(rollouts(one, model, processor, rows[:3], **changes) for one in (kept(model), None)), tolerance=1e-4)


def test_a_text_that_is_closed_between_two_looks_ends_there(fresh_tiny, rows):
    model, processor = fresh_tiny
    how = {"closed": lambda tokens: sum(tokens) % 7 == 0, "draw": by_share, "record": False, "end_tokens": []}
    found, expected = (rollouts(one, model, processor, rows[:3], **how) for one in (kept(model), None))
    same(found, expected)
    assert len({len(tokens) for tokens in found[0].tokens}) > 2


class Recorder:
    """Counts recordings, and repeats a call as a graph does: at the places where everything stood then."""

    def __init__(self):
        self.recordings = self.replays = 0

    def __call__(self, call):
        self.recordings += 1
        places = [cell.data_ptr() for cell in self.tensors(call)]

        def again():
            self.replays += 1
            assert [cell.data_ptr() for cell in self.tensors(call)] == places
            return call()

        return again

    @staticmethod
    def tensors(call):
        """Everything that a recorded step reads: the state, the weights, what a row says and where."""
        decoder, state = call.__self__, call.__self__._state
        layers = [maps.__dict__ for one in decoder.layers.layers for maps in (one, one.inwards, one.out, one.gates)]
        found = [value for part in layers for value in part.values() if isinstance(value, torch.Tensor)]
        here = (decoder._tokens, decoder._place, *decoder.turns, state.position, state.visible)
        return [*found, *here, *state.keys, *state.values]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_recording_serves_a_run(fresh_tiny, rows, dtype):
    """The weights change under it, as by an optimizer, and fewer or shorter rows find room."""
    model, processor = fresh_tiny
    model = adapted(model).to(dtype)
    recorder = Recorder()
    decoder, said = kept(model, recorder), []
    for turn in range(3):
        decoder.renew()
        found = rollouts(decoder, model, processor, rows[3 * turn : 3 * turn + 3])
        fresh = rollouts(kept(model), model, processor, rows[3 * turn : 3 * turn + 3])
        assert torch.equal(found[0].log_probs, fresh[0].log_probs)
        same(found, fresh)
        said.append(found[0].log_probs)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight += 0.1 * torch.randn_like(weight)
    assert recorder.recordings == 1 and recorder.replays > 20


def test_a_larger_batch_is_recorded_anew(fresh_tiny, rows):
    model, processor = fresh_tiny
    recorder = Recorder()
    decoder = kept(model, recorder)
    for new_tokens in (12, 12, 150, 12):  # more places than there were
        rollouts(decoder, model, processor, rows[:3], new_tokens, end_tokens=[])
    assert recorder.recordings == 2


def test_a_recording_that_fails_is_told_once_and_never_tried_again(fresh_tiny, rows):
    model, processor = fresh_tiny
    tries = []

    def failing(call):
        tries.append(call)
        raise RuntimeError("no memory for it")

    decoder = kept(adapted(model), failing)
    with pytest.warns(UserWarning, match="not recorded in a CUDA graph.*no memory for it") as told:
        for new_tokens in (24, 24, 150):
            decoder.renew()
            found = rollouts(decoder, model, processor, rows[:3], new_tokens)
            same(found, rollouts(None, model, processor, rows[:3], new_tokens), tolerance=1e-4)
    assert len(tries) == len(told) == 1 and not decoder.is_recorded


def test_without_a_gpu_a_recording_fails_as_it_may(fresh_tiny, rows):
    from medr1kit.models.shared_prefix.graphs import recorded

    if torch.cuda.is_available():
        pytest.skip("here it can be recorded")
    model, processor = fresh_tiny
    with pytest.warns(UserWarning, match="not recorded in a CUDA graph"):
        rollouts(kept(model, recorded), model, processor, rows[:3])


def test_graphs_are_used_on_a_gpu_only_where_they_are_asked_for(monkeypatch):
    monkeypatch.delenv("MEDR1KIT_CUDA_GRAPHS", raising=False)
    assert not graphs_asked(torch.device("cuda"))
    assert "has not been run on a GPU yet" in choose_decoding("cuda:1").reason
    monkeypatch.setenv("MEDR1KIT_CUDA_GRAPHS", "1")
    assert graphs_asked(torch.device("cuda", 0)) and not graphs_asked(torch.device("cpu"))


def test_a_run_keeps_its_decoder_and_says_what_a_run_without_says(fresh_tiny, rows, tmp_path, monkeypatch):
    from shared_prefix_cases import trainer_of, with_prompts

    from medr1kit.training import shared_trainer

    recorder = Recorder()
    monkeypatch.setattr(shared_trainer, "graphs_asked", lambda device: True)
    monkeypatch.setattr(shared_trainer, "StaticDecoder", lambda *parts: StaticDecoder(*parts, record=recorder))
    asked, texts = with_prompts(rows[:4]), []
    for how in ("recorded", "not"):
        import medr1kit as mk

        model, processor = mk.load_model()
        trainer = trainer_of(None, adapted(model), processor, asked, tmp_path / how, max_steps=3)
        trainer.train()
        texts.append(trainer.texts)
        monkeypatch.setattr(shared_trainer, "graphs_asked", lambda device: False)
    assert recorder.recordings == 1 and texts[0] == texts[1] and len(texts[0]) == 3
