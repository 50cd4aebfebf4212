"""A prompt and its completions in one sequence; that the numbers are TRL's is tested with the scoring."""

import torch
from shared_prefix_cases import LENGTHS, adapted, completions, conversations, core_of, head_of

from medr1kit.models.shared_prefix.packing import _Layout, score_packed
from medr1kit.models.shared_prefix.prompts import Prompts, read_prompts
from medr1kit.models.shared_prefix.vision import VisionFeatures

PROMPTS = Prompts(
    input_ids=torch.tensor([[0, 5, 6], [7, 8, 9]]),
    attention_mask=torch.tensor([[0, 1, 1], [1, 1, 1]]),
    position_ids=torch.tensor([[0, 0, 1], [0, 1, 1]]).expand(3, -1, -1),
    next_position=torch.tensor([2, 2]),
    images=(),
    of_row=torch.arange(2),
)


def test_the_layout_of_two_prompts_with_three_completions():
    layout = _Layout(PROMPTS, torch.tensor([0, 0, 1]), torch.tensor([3, 2, 1]))
    ids = layout.ids(PROMPTS, torch.tensor([[21, 22, 23], [31, 32, 0], [41, 0, 0]]))
    assert ids.tolist() == [[0, 5, 6, 21, 22, 31], [7, 8, 9, 0, 0, 0]]  # nothing is predicted from a last token
    assert layout.positions(PROMPTS)[0].tolist() == [[0, 0, 1, 2, 3, 2], [0, 1, 1, 0, 0, 0]]
    assert layout.mask(PROMPTS)[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 1, 0],
        [0, 1, 1, 0, 0, 1],
    ]
    assert layout.mask(PROMPTS)[1, 0, 3:, 3:].equal(torch.eye(3, dtype=torch.bool))  # padding looks at itself


def test_checkpointed_layers_run_twice_and_give_the_same(micro, train_phantoms):
    model, processor = adapted(micro[0]), micro[1]
    asked = conversations(list(train_phantoms.select(range(3))))
    ids, mask = completions(model, processor, asked)
    core, runs, found = core_of(model), [], []
    core.language_model.layers[0].input_layernorm.register_forward_hook(lambda *_: runs.append(1))
    for checkpointed in (False, True):
        if checkpointed:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        runs.clear()
        model.zero_grad()
        prompts = read_prompts(processor, core, asked)
        logps, _ = score_packed(core, head_of(model), VisionFeatures(core), prompts, prompts.of_row, ids, mask)
        logps.sum().backward()
        assert len(runs) == (2 if checkpointed else 1)
        found.append([logps.detach(), *(w.grad for w in model.parameters() if w.grad is not None)])
    assert all(torch.allclose(*pair, rtol=1e-5, atol=1e-6) for pair in zip(*found, strict=True))
    assert int((found[0][0] != 0).sum()) == sum(LENGTHS)
