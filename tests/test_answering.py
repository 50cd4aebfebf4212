"""Greedy answers from a shared prefix: the tokens of generate, and what is computed only once."""

from importlib import import_module
from io import BytesIO
from itertools import zip_longest

import pytest
import torch
from PIL import Image

import medr1kit as mk
from medr1kit.models import decoding
from medr1kit.models.adapters import lora
from medr1kit.models.shared_prefix.answering import Answerer
from medr1kit.models.shared_prefix.vision import FILE_DIGEST, Pictures, forget_images, names_of

predict_module = import_module("medr1kit.models.predict")
PARTS = [(), ("merger",), ("tower",), ("merger", "tower")]  # adapted beside the language model
FORMATS = [mk.NO_THINK, mk.THINK_BEFORE, mk.THINK_AFTER]


@pytest.fixture(autouse=True)
def no_images_from_other_tests():
    forget_images()
    yield
    forget_images()


def asked(processor, rows, form):
    """Prompts and pictures: two questions about the first picture, one of them twice, and a picture of another size."""
    rows = list(rows)
    prompts = [predict_module.chat_prompt(processor, form, row["problem"]) for row in rows]
    pictures = [row["image"] for row in rows]
    pictures[1], pictures[2] = pictures[0], pictures[2].resize((160, 96))
    return [*prompts, prompts[0]], [*pictures, pictures[0]]


def generated(model, processor, prompts, pictures, limit):
    with decoding.plain_decoding(model, processor, limit, None):
        return list(decoding.generate(model, processor, None, prompts, pictures))


def answerer(model, processor, limit=24, **settings):
    return Answerer(model, processor, limit=limit, ends=decoding.end_tokens(model, processor), **settings)


def adapted(model, **parts):
    from peft import get_peft_model

    torch.manual_seed(1)
    return acting(get_peft_model(model, lora(**parts)))


def acting(model, std=0.02):
    """The model with adapters that change what it says."""
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=std)
    return model.eval()


# ---- the tokens ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_texts_and_lengths_are_those_of_generate(tiny, val_phantoms, form):
    prompts, pictures = asked(tiny[1], val_phantoms.select(range(12)), form)
    assert answerer(*tiny, limit=40)(prompts, pictures) == generated(*tiny, prompts, pictures, 40)


@pytest.mark.parametrize("parts", PARTS, ids=" and ".join)
def test_an_adapted_model_answers_as_in_generate(fresh_tiny, val_phantoms, parts):
    model, processor = adapted(fresh_tiny[0], **dict.fromkeys(parts, True)), fresh_tiny[1]
    prompts, pictures = asked(processor, val_phantoms.select(range(8)), mk.THINK_AFTER)
    expected = generated(model, processor, prompts, pictures, 24)
    assert answerer(model, processor)(prompts, pictures) == expected


@pytest.mark.parametrize("parts", [None, *PARTS], ids=lambda parts: "base" if parts is None else " and ".join(parts))
def test_the_other_architectures_answer_as_in_generate(micro, val_phantoms, parts):
    """Their weights are random, so nearly all rows run into the limit."""
    model, processor = micro
    model = model if parts is None else adapted(model, **dict.fromkeys(parts, True))
    prompts, pictures = asked(processor, val_phantoms.select(range(8)), mk.NO_THINK)
    assert answerer(model, processor, limit=40)(prompts, pictures) == generated(model, processor, prompts, pictures, 40)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_the_limit_holds(tiny, val_phantoms, limit):
    prompts, pictures = asked(tiny[1], val_phantoms.select(range(4)), mk.NO_THINK)
    ours = answerer(*tiny, limit=limit)
    assert ours(prompts, pictures) == generated(*tiny, prompts, pictures, limit)


def test_a_row_ends_where_its_text_is_closed(tiny, val_phantoms):
    prompts, pictures = asked(tiny[1], val_phantoms.select(range(8)), mk.THINK_AFTER)
    whole = answerer(*tiny, limit=40)(prompts, pictures)
    ended = answerer(*tiny, limit=40, closed=predict_module.answer_closed)
    for (text, n_tokens), (full, _) in zip(ended(prompts, pictures), whole):
        assert (text, n_tokens) == (full.partition("</answer>")[0] + "</answer>", 3)
    assert ended.row_steps == 2 * 8  # reading the prompt gives the first of three tokens


# ---- once ------------------------------------------------------------------------------------------------------------


def test_an_image_is_encoded_and_read_once_and_an_equal_prompt_once(tiny, val_phantoms):
    prompts, pictures = asked(tiny[1], val_phantoms.select(range(6)), mk.NO_THINK)
    ours = answerer(*tiny, limit=3)
    assert ours(prompts, pictures)[0] == ours(prompts, pictures)[-1]
    assert (ours.vision.encoded, ours.beginnings) == (5, 10)  # 7 rows, 5 images, asked twice
    assert ours.row_steps == 2 * 6 * 2  # twice six distinct prompts, and two tokens after the first


def test_rows_that_are_done_leave_the_batch(tiny, val_phantoms):
    prompts, pictures = asked(tiny[1], val_phantoms.select(range(16)), mk.THINK_AFTER)
    ours = answerer(*tiny, limit=60)
    lengths = [n_tokens for _, n_tokens in ours(prompts, pictures)[:16]]
    assert sum(lengths) - 16 <= ours.row_steps < 16 * (max(lengths) - 1)


def test_features_are_kept_for_the_next_reader_of_the_same_tower(tiny, fresh_tiny, val_phantoms):
    prompts, pictures = asked(tiny[1], val_phantoms.select(range(4)), mk.NO_THINK)
    first, second = answerer(*tiny), answerer(*fresh_tiny)  # two models with equal weights
    assert first(prompts, pictures) == second(prompts, pictures)
    assert second.vision is first.vision and first.vision.encoded == 3
    with torch.no_grad():
        fresh_tiny[0].model.visual.blocks[0].mlp.fc1.weight[0, 0] += 1.0
    changed = answerer(*fresh_tiny)
    assert changed(prompts, pictures) == generated(*fresh_tiny, prompts, pictures, 24)
    assert changed.vision is not first.vision and changed.vision.encoded == 3


def test_adapters_on_the_merger_share_what_enters_it(fresh_tiny, val_phantoms):
    model, processor = adapted(fresh_tiny[0], merger=True), fresh_tiny[1]
    prompts, pictures = asked(processor, val_phantoms.select(range(4)), mk.THINK_AFTER)
    first = answerer(model, processor)
    first(prompts, pictures)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "merger" in name and "lora_B" in name:
                weight += 0.05
    second = answerer(model, processor)
    assert second(prompts, pictures) == generated(model, processor, prompts, pictures, 24)
    assert second.vision is first.vision and second.vision.encoded == 3


@pytest.mark.parametrize("merger", [False, True])
def test_two_adapters_on_the_tower_give_their_own_answers(fresh_tiny, val_phantoms, merger):
    """However one gets from one to the other: by a switch, by training on, by scaling, or by turning both off."""
    parts, processor = {"merger": merger, "tower": True}, fresh_tiny[1]
    model = adapted(fresh_tiny[0], **parts)
    model.add_adapter("other", lora(**parts))
    acting(model, std=0.05)
    prompts, pictures = asked(processor, val_phantoms.select(range(6)), mk.THINK_AFTER)
    name, features = names_of(pictures)[0], []

    def check():
        """The answers are those of generate; features are those of no state before, and kept for the next reader."""
        reader, again = answerer(model, processor), answerer(model, processor)
        expected = generated(model, processor, prompts, pictures, 24)
        assert reader(prompts, pictures) == expected == again(prompts, pictures)
        assert reader.vision is again.vision and reader.vision.encoded == 5
        features.append(reader.vision._kept[name].features)
        assert not any(torch.allclose(features[-1], before, atol=1e-3) for before in features[:-1])

    check()
    model.set_adapter("other")
    check()
    with torch.no_grad():
        model.get_base_model().model.visual.blocks[0].mlp.fc1.lora_B["other"].weight += 0.05
    check()
    for layer in model.modules():
        if hasattr(layer, "set_scale"):
            layer.set_scale("other", 3.0)
    check()
    with model.disable_adapter():
        check()
    model.set_adapter("default")
    assert torch.allclose(one_image(answerer(model, processor), name, prompts, pictures), features[0])


def one_image(reader, name, prompts, pictures):
    reader(prompts, pictures)
    return reader.vision._kept[name].features


def test_a_tower_whose_adapter_is_no_plain_lora_is_never_taken_for_another(fresh_tiny, val_phantoms):
    from peft import get_peft_model

    settings, processor = lora(tower=True), fresh_tiny[1]
    settings.use_dora = True
    model = acting(get_peft_model(fresh_tiny[0], settings))
    prompts, pictures = asked(processor, val_phantoms.select(range(4)), mk.NO_THINK)
    readers = [answerer(model, processor) for _ in range(2)]
    for reader in readers:
        assert reader(prompts, pictures) == generated(model, processor, prompts, pictures, 24)
    assert readers[0].vision is not readers[1].vision


def test_a_merger_that_was_trained_as_a_whole_counts_as_an_adapter_of_it(fresh_tiny, val_phantoms):
    """PEFT's modules_to_save: a copy of the merger that comes and goes with the adapter."""
    from peft import get_peft_model

    settings, processor = lora(), fresh_tiny[1]
    settings.modules_to_save = ["merger"]
    model = get_peft_model(fresh_tiny[0], settings).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "modules_to_save" in name:
                weight.zero_()  # it sees nothing
    prompts, pictures = asked(processor, val_phantoms.select(range(12)), mk.THINK_AFTER)
    blind = answerer(model, processor)(prompts, pictures)
    assert blind == generated(model, processor, prompts, pictures, 24)
    with model.disable_adapter():
        seeing = answerer(model, processor)(prompts, pictures)
        assert seeing == generated(model, processor, prompts, pictures, 24) != blind


def test_a_tower_with_hooks_is_never_taken_for_another(fresh_tiny, val_phantoms):
    model, processor = fresh_tiny
    prompts, pictures = asked(processor, val_phantoms.select(range(4)), mk.NO_THINK)
    answerer(model, processor)(prompts, pictures)
    model.model.visual.blocks[0].register_forward_hook(lambda module, arguments, output: output * 0)
    blind = answerer(model, processor)
    assert blind(prompts, pictures) == generated(model, processor, prompts, pictures, 24)


def in_place(weight, gradient):
    torch.optim.SGD([weight], lr=0.05).step()


def fused(weight, gradient):
    """What TRL takes on a GPU; PyTorch does not count it as a change."""
    before = weight._version
    torch.optim.AdamW([weight], lr=0.05, fused=True).step()
    assert weight._version == before


def behind_its_back(weight, gradient):
    weight.data -= 0.05 * gradient


def loaded(weight, gradient):
    weight.data = weight.data - 0.05 * gradient


@pytest.mark.parametrize("step", [in_place, fused, behind_its_back, loaded])
def test_a_step_on_the_tower_s_weights_is_noticed(fresh_tiny, val_phantoms, step):
    """Asked before the step and after it, the model says what a fresh load of it says that was never asked before."""
    model, processor = fresh_tiny
    prompts, pictures = asked(processor, val_phantoms.select(range(4)), mk.NO_THINK)
    before = read_by(model, processor, prompts, pictures)
    weight = model.model.visual.blocks[0].mlp.fc1.weight.requires_grad_(True)
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    step(weight, weight.grad)
    found, (fresh, _) = read_by(model, processor, prompts, pictures), mk.load_model("tiny")
    fresh.load_state_dict(model.state_dict())
    forget_images()
    assert torch.equal(found, read_by(fresh, processor, prompts, pictures)) and not torch.allclose(found, before)


def read_by(model, processor, prompts, pictures):
    """What a reader of now makes of prompts and pictures, (rows, hidden)."""
    prefix, of_row = answerer(model, processor).read(prompts, pictures)
    return prefix.last_hidden[of_row]


def test_kept_features_do_not_keep_their_model(tiny, val_phantoms):
    import gc
    import weakref

    model, processor = mk.load_model("tiny")
    answerer(model, processor)(*asked(processor, val_phantoms.select(range(3)), mk.NO_THINK))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_features_that_did_not_fit_are_computed_again(tiny, val_phantoms):
    prompts, pictures = asked(tiny[1], val_phantoms.select(range(6)), mk.NO_THINK)
    expected, small = generated(*tiny, prompts, pictures, 24), answerer(*tiny)
    small.vision.limit = 2 * 16 * 128 * 4  # two images of 16 tokens
    assert [small(prompts, pictures) for _ in range(2)] == [expected] * 2
    assert small.vision.encoded > 5


# ---- pictures --------------------------------------------------------------------------------------------------------


def image_rows(*contents, paths=()):
    from datasets import Dataset
    from datasets import Image as ImageFeature

    files = [{"bytes": content, "path": path} for content, path in zip_longest(contents, paths)]
    return Dataset.from_dict({"image": files}).cast_column("image", ImageFeature())


def test_a_known_picture_is_never_decoded(tiny, val_phantoms):
    rows = val_phantoms.select(range(3))
    prompts = [predict_module.chat_prompt(tiny[1], mk.NO_THINK, row["problem"]) for row in rows]
    seen, again = Pictures(rows)([0, 1, 2]), Pictures(rows)([0, 1, 2])
    assert answerer(*tiny)(prompts, seen) == answerer(*tiny)(prompts, again)
    assert not any(picture.tile for picture in seen) and all(picture.tile for picture in again)  # tile: still to decode
    for picture, row in zip(again, rows):
        assert picture.tobytes() == row["image"].tobytes()


def test_rows_with_the_same_file_get_the_same_object_and_none_a_grey_one(val_phantoms):
    shown = Pictures(val_phantoms.select([0, 1, 0]))([0, 1, 2, 0, None])
    assert shown[0] is shown[2] is shown[3] and shown[0] is not shown[1]
    assert shown[4].size == shown[0].size and shown[4].getextrema() == ((127, 127),) * 3


def test_pictures_in_files_are_opened_late_too(tmp_path):
    plain, content = Image.new("RGB", (40, 20), (9, 99, 199)), BytesIO()
    plain.save(content, "PNG")
    (tmp_path / "a.png").write_bytes(content.getvalue())
    rows = image_rows(content.getvalue(), None, paths=[None, str(tmp_path / "a.png")])
    inside, beside = Pictures(rows)([0, 1])
    assert inside.info[FILE_DIGEST] == beside.info[FILE_DIGEST] and inside.tile and beside.tile
    assert beside.tobytes() == inside.tobytes() == plain.tobytes()


def test_a_picture_that_lies_on_its_side_is_turned_as_datasets_turns_it():
    exif, plain, content = Image.Exif(), Image.new("RGB", (40, 20), (9, 99, 199)), BytesIO()
    exif[0x0112] = 6  # orientation: a quarter turn
    plain.save(content, "JPEG", exif=exif)
    rows = image_rows(content.getvalue())
    (shown,) = Pictures(rows)([0])
    assert shown.size == rows[0]["image"].size == (20, 40) and FILE_DIGEST not in shown.info
