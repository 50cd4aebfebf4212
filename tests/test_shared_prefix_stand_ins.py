"""Stand-ins for TRL's processor, data set and model: less work, the same answers."""

import torch

from medr1kit.training.stand_ins import OnceDecoded, ReadAlready, by_prompt, let_through


class Counting:
    def __init__(self):
        self.read = []

    def __len__(self):
        return 4

    def __getitem__(self, index):
        self.read.append(index)
        return {"row": index, "prompt": [index]}


def test_rows_are_decoded_once_and_are_dicts_of_their_own():
    source = Counting()
    data = OnceDecoded(source)
    batch = data.__getitems__([2, 2, 0, 2, 0])
    assert [row["row"] for row in batch] == [2, 2, 0, 2, 0] and source.read == [2, 0]
    batch[0]["row"] = 9
    assert batch[1]["row"] == 2
    assert len(data) == 4 and data[3]["row"] == 3


def test_the_processor_reads_nothing_but_keeps_its_other_talents(tiny):
    processor = tiny[1]
    stand_in = ReadAlready(processor)
    assert stand_in.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False) == ""
    assert stand_in(images=[[None]] * 3, text=[""] * 3, padding=True)["pixel_values"].shape == (3, 1)
    assert stand_in.tokenizer is processor.tokenizer
    assert stand_in.batch_decode([[5, 6]]) == processor.batch_decode([[5, 6]])


def test_a_call_runs_inside_the_forward_pass_of_a_wrapper():
    model, seen = torch.nn.Linear(2, 2), []
    wrapper = torch.nn.Sequential(model)
    let_through(model)
    model.register_forward_hook(lambda *_: seen.append("inside"))
    x = torch.ones(1, 2)
    assert torch.equal(wrapper(x), torch.nn.functional.linear(x, model.weight, model.bias))
    assert model(shared_prefix=lambda: 7) == 7
    assert seen == ["inside", "inside"]


def test_rows_of_a_prompt_come_into_one_micro_batch():
    owners = [[2, 0], [1, 2], [0, 1]]
    batches = [
        {
            "prompt_of_row": torch.tensor(owner),
            "ids": torch.tensor([[10 * i], [10 * i + 1]]),
            "num_images": [i, 10 + i],
            "num_items_in_batch": torch.tensor(6),
            "nothing": None,
        }
        for i, owner in enumerate(owners)
    ]
    cut = by_prompt(batches)
    assert [batch["prompt_of_row"].tolist() for batch in cut] == [[2, 2], [0, 0], [1, 1]]  # in order of appearance
    assert [batch["ids"].flatten().tolist() for batch in cut] == [[0, 11], [1, 20], [10, 21]]
    assert [batch["num_images"] for batch in cut] == [[0, 11], [10, 2], [1, 12]]
    assert all(batch["num_items_in_batch"] == 6 and batch["nothing"] is None for batch in cut)
