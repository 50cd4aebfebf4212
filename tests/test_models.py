"""Loading models: the built-in one, the three architectures, runs and adapters, and what their answers are called."""

import json
import shutil

import pytest
import torch
from PIL import Image

import medr1kit as mk
from medr1kit.data.phantoms import PAINTERS
from medr1kit.models import load as models
from medr1kit.models.processor import SUPPORTED
from medr1kit.vqa import DataError
from scripts.make_tiny.tokenizer import phantom_words, word_forms

ANY_TEXT = (
    "plain words",
    "a , b .  c",
    "\x00\x01\x7f",
    "🫀🧠👩‍⚕️",
    "胸部X光片",
    "é é",
    "tab\tline\r\nend ",
    "<think>x</answer>",
    "",
)
STEP = {"max_steps": 1, "warmup_steps": 0, "per_device_train_batch_size": 4}


def question(processor, text="What is shown? A)CT, B)MRI", image=None):
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
    prompt = processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
    return processor(text=[prompt], images=[image or Image.new("RGB", (112, 112))], return_tensors="pt")


def trainable(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


# ---- the built-in model ----------------------------------------------------------------------------------------------


def test_the_built_in_model_is_small_and_a_stock_qwen2_vl(tiny):
    model, _ = tiny
    weights = list(models.TINY.glob("*.safetensors"))
    assert weights and sum(file.stat().st_size for file in weights) <= 4 * 1024**2
    assert type(model).__name__ == "Qwen2VLForConditionalGeneration" and type(model).__module__.startswith(
        "transformers."
    )
    assert not model.training and model.dtype == torch.float32 and model.device.type == "cpu"


@pytest.mark.parametrize("text", ANY_TEXT)
def test_its_tokenizer_gives_any_text_back(tiny, text):
    tokenizer = tiny[1].tokenizer
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert all(0 <= i < tiny[0].config.text_config.vocab_size for i in ids)


def test_each_phantom_word_is_one_token_with_and_without_a_blank(tiny):
    tokenizer = tiny[1].tokenizer
    words = {word for p in PAINTERS.values() for word in (*p.ANATOMIES, *p.FINDINGS, *p.ATTRIBUTES)}
    assert words | set(mk.MODALITIES) <= set(phantom_words())
    for word in phantom_words():
        assert [len(tokenizer.encode(form, add_special_tokens=False)) for form in (word, f" {word}")] == [1, 1], word
    pairs = word_forms(tokenizer)
    assert len({i for pair in pairs for i in pair}) == 2 * len(phantom_words())


def test_the_shipped_tokenizer_is_the_one_its_script_builds(tiny):
    from scripts.make_tiny.tokenizer import build_tokenizer

    built, shipped = build_tokenizer(), tiny[1].tokenizer
    assert built.get_vocab() == shipped.get_vocab()
    assert built.chat_template == shipped.chat_template


def test_a_prompt_holds_one_image_token_for_each_four_patches(tiny):
    _, processor = tiny
    inputs = question(processor)
    grid = inputs["image_grid_thw"]
    assert (inputs["input_ids"] == tiny[0].config.image_token_id).sum() == grid.prod() // 4
    assert inputs["pixel_values"].shape[0] == grid.prod()


def test_the_processor_refuses_videos(tiny):
    with pytest.raises(DataError, match=r"videos= is not supported"):
        tiny[1](text=["x"], videos=[[Image.new("RGB", (28, 28))]])


def test_a_processor_survives_being_saved(tiny, tmp_path):
    model, processor = tiny
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, its_processor = mk.load_model(tmp_path)
    inputs, same = question(processor), question(its_processor)
    assert inputs.keys() == same.keys()
    assert all(torch.equal(inputs[name], same[name]) for name in inputs)
    with torch.inference_mode():
        assert torch.equal(model(**inputs).logits, again(**same).logits)


@pytest.mark.parametrize("side", [50, 112, 400])
def test_max_pixels_caps_every_image(side):
    _, processor = mk.load_model("tiny", max_pixels=56 * 56)
    t, h, w = question(processor, image=Image.new("RGB", (side, side)))["image_grid_thw"][0].tolist()
    assert t * h * w * 14 * 14 <= 56 * 56


# ---- the image reaches the language model ----------------------------------------------------------------------------


def letter_logits(model, processor, row, image):
    """Logits of the four letters behind ``<answer>``: (4,)."""
    inputs = question(processor, mk.NO_THINK.prompt(row["problem"]), image)
    opening = processor.tokenizer("<answer>", add_special_tokens=False, return_tensors="pt")["input_ids"]
    inputs["input_ids"] = torch.cat([inputs["input_ids"], opening], dim=1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs.pop("mm_token_type_ids", None)
    if "mm_token_type_ids" in processor.model_input_names:
        inputs["mm_token_type_ids"] = (inputs["input_ids"] == model.config.image_token_id).int()
    letters = processor.tokenizer.convert_tokens_to_ids(list("ABCD"))
    with torch.inference_mode():
        return model(**inputs).logits[0, -1, letters]


def effect_of_the_image(model, processor, rows):
    """Mean change of the gold letter's logit, and of its lead, when each row is shown the next one's image."""
    changes, leads = [], []
    for row, other in zip(rows, [*rows[1:], rows[0]]):
        gold = "ABCD".index(row["answer"])
        own, swapped = (letter_logits(model, processor, row, image) for image in (row["image"], other["image"]))
        assert torch.equal(own, letter_logits(model, processor, row, row["image"]))
        changes.append((own - swapped)[gold].abs().item())
        leads.append(((own[gold] - own.mean()) - (swapped[gold] - swapped.mean())).item())
    return sum(changes) / len(changes), sum(leads) / len(leads)


@pytest.fixture(scope="module")
def looking_rows(val_phantoms):
    return [row for row in val_phantoms.select(range(24)) if len(row["options"]) == 4][:16]


def test_swapping_the_image_moves_the_answer_letter(tiny, looking_rows):
    change, lead = effect_of_the_image(*tiny, looking_rows)
    assert change > 0.3
    assert lead > 0.3  # and the right image favours the right letter


@pytest.mark.parametrize("trained_by", ["sft", "grpo"])
def test_swapping_the_image_still_moves_it_after_training(
    fresh_tiny, train_phantoms, looking_rows, tmp_path, trained_by
):
    model, processor = fresh_tiny
    train = {"sft": mk.train_sft, "grpo": mk.train_grpo}[trained_by]
    groups = {"num_generations": 4, "max_completion_length": 8} if trained_by == "grpo" else {}
    train(model, processor, train_phantoms, format="no-think", output_dir=tmp_path, **STEP, **groups)
    change, lead = effect_of_the_image(model, processor, looking_rows)
    assert change > 0.3 and lead > 0.3


def test_a_blinded_model_is_told_apart(fresh_tiny, looking_rows):
    """The check above can fail: with constant features in place of the tower's, nothing moves."""
    model, processor = fresh_tiny

    def blind(module, arguments, output):
        output.pooler_output = torch.zeros_like(output.pooler_output)
        return output

    models.base_of(model).model.visual.register_forward_hook(blind)
    assert effect_of_the_image(model, processor, looking_rows[:4]) == (0.0, 0.0)


# ---- other architectures ---------------------------------------------------------------------------------------------


def test_the_other_architectures_load_and_see(micro, micro_folder):
    model, processor = micro
    assert model.config.model_type in SUPPORTED and model.config.model_type != "qwen2_vl"
    own, swapped = (question(processor, image=Image.new("RGB", (64, 64), colour)) for colour in ("black", "white"))
    with torch.inference_mode():
        assert torch.isfinite(model(**own).logits).all()
        assert not torch.allclose(model(**own).logits[0, -1], model(**swapped).logits[0, -1])
    assert models.image_token_ids(model) == processor.tokenizer.convert_tokens_to_ids(
        ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    )
    with pytest.raises(DataError, match="videos"):
        processor(text=["x"], videos=[[Image.new("RGB", (28, 28))]])


@pytest.mark.parametrize("where", ["a stock tokenizer with its template in a file", "chat_template.json"])
def test_a_chat_template_is_found_where_checkpoints_keep_it(micro_folder, tiny, tmp_path, where):
    import shutil

    folder = tmp_path / "checkpoint"
    shutil.copytree(micro_folder, folder)
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    assert template == tiny[1].tokenizer.chat_template
    if where == "chat_template.json":
        (folder / "chat_template.jinja").unlink()
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}), encoding="utf-8")
    assert mk.load_model(folder)[1].chat_template == template


# ---- LoRA ------------------------------------------------------------------------------------------------------------


def wrapped(model, **arguments):
    from peft import get_peft_model

    return get_peft_model(model, mk.lora(**arguments))


def is_visual(name):
    return ".visual." in name


def test_lora_touches_only_the_language_model(fresh_tiny):
    model = wrapped(fresh_tiny[0], rank=2, alpha=4)
    names = trainable(model)
    layers = model.config.text_config.num_hidden_layers
    assert len(names) == layers * 7 * 2  # seven maps a layer, two matrices each
    assert all("language_model.layers" in name and "lora_" in name for name in names)
    assert not any(parameter.requires_grad for parameter in models.base_of(model).model.visual.parameters())


def test_lora_with_merger_adds_the_merger_and_nothing_else_of_the_tower(fresh_tiny):
    names = trainable(wrapped(fresh_tiny[0], rank=2, merger=True))
    assert len([name for name in names if "language_model.layers" in name]) == 4 * 7 * 2
    assert sum(map(is_visual, names)) == 2 * 2
    assert all("visual.merger.mlp" in name for name in names if is_visual(name))


@pytest.mark.parametrize("merger", [False, True])
def test_lora_finds_the_same_maps_in_the_other_architectures(micro, merger):
    names = trainable(wrapped(micro[0], rank=2, merger=merger))
    assert len([name for name in names if "language_model.layers" in name]) == 2 * 7 * 2
    found = {name.partition(".visual.")[2].partition(".lora_")[0] for name in names if is_visual(name)}
    assert sorted(found) == (MAPS_OF_THE_MERGERS[micro[0].config.model_type] if merger else [])


ATTENTION = ["attn.proj", "attn.qkv"]
MAPS_OF_A_BLOCK = {
    "qwen2_vl": [*ATTENTION, "mlp.fc1", "mlp.fc2"],
    "qwen2_5_vl": [*ATTENTION, "mlp.down_proj", "mlp.gate_proj", "mlp.up_proj"],
    "qwen3_vl": [*ATTENTION, "mlp.linear_fc1", "mlp.linear_fc2"],
}
MAPS_OF_THE_MERGERS = {
    "qwen2_vl": ["merger.mlp.0", "merger.mlp.2"],
    "qwen2_5_vl": ["merger.mlp.0", "merger.mlp.2"],
    "qwen3_vl": [
        *("deepstack_merger_list.0.linear_fc1", "deepstack_merger_list.0.linear_fc2"),
        *("deepstack_merger_list.1.linear_fc1", "deepstack_merger_list.1.linear_fc2"),
        *("merger.linear_fc1", "merger.linear_fc2"),
    ],
}


def check_tower(model, merger):
    """With tower=True exactly the linear maps of all blocks are adapted, and mergers if asked: no convolution."""
    kind, depth = model.config.model_type, len(model.model.visual.blocks)
    names = trainable(wrapped(model, rank=2, tower=True, merger=merger))
    wanted = [f"blocks.{i}.{name}" for i in range(depth) for name in MAPS_OF_A_BLOCK[kind]]
    wanted += MAPS_OF_THE_MERGERS[kind] if merger else []
    found = [name.partition(".visual.")[2].partition(".lora_")[0] for name in names if is_visual(name)]
    assert sorted(found) == sorted(2 * wanted)  # two matrices each
    assert len(names) - len(found) == len(model.model.language_model.layers) * 7 * 2


@pytest.mark.parametrize("merger", [False, True])
def test_lora_with_tower_adapts_the_linear_maps_of_its_blocks(fresh_tiny, merger):
    check_tower(fresh_tiny[0], merger)


@pytest.mark.parametrize("merger", [False, True])
def test_lora_with_tower_finds_them_in_the_other_architectures(micro, merger):
    check_tower(micro[0], merger)


# ---- what cannot be loaded -------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_refused_with_what_to_give(tmp_path):
    with pytest.raises(DataError, match=r"no model at .*nowhere.*'tiny', a folder with config.json, or a hub id"):
        mk.load_model(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no model at 'nobody/nothing'"):
        mk.load_model("nobody/nothing")


def test_another_architecture_is_refused_with_those_there_are(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}), encoding="utf-8")
    with pytest.raises(DataError, match=r"is a bert model; medr1kit supports qwen2_vl, qwen2_5_vl, qwen3_vl"):
        mk.load_model(tmp_path)


def test_a_checkpoint_without_weights_is_refused(tiny, tmp_path):
    tiny[0].config.save_pretrained(tmp_path)
    tiny[1].save_pretrained(tmp_path)
    with pytest.raises(DataError, match=str(tmp_path)):
        mk.load_model(tmp_path)


def test_a_missing_adapter_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no LoRA adapter at .*adapter.*adapter_config.json"):
        mk.load_model("tiny", adapter=tmp_path / "adapter")


def test_a_run_without_weights_says_that_it_did_not_finish(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"model": "tiny"}), encoding="utf-8")
    with pytest.raises(DataError, match=r"neither adapter/ nor model/; it did not finish"):
        mk.load_model(tmp_path)


# ---- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(one_thread, train_phantoms, tmp_path_factory):
    """A model after three SFT steps that change it visibly, its processor, and its run."""
    model, processor = mk.load_model("tiny")
    settings = {"max_steps": 3, "warmup_steps": 0, "learning_rate": 5e-3, "per_device_train_batch_size": 8}
    folder = tmp_path_factory.mktemp("runs") / "sft"
    run = mk.train_sft(model, processor, train_phantoms, format="no-think", output_dir=folder, seed=3, **settings)
    return model, processor, run


@pytest.mark.parametrize("how", ["run folder", "adapter argument"])
def test_a_run_loads_with_its_adapter_and_answers_as_the_trained_model(trained, tiny, val_phantoms, how):
    model, processor, run = trained
    loaded, _ = mk.load_model(run.path) if how == "run folder" else mk.load_model("tiny", adapter=run.path / "adapter")
    rows = val_phantoms.select(range(8))
    for row in rows:
        logits = [letter_logits(m, processor, row, row["image"]) for m in (model, loaded, tiny[0])]
        assert torch.equal(logits[0], logits[1])
        assert not torch.allclose(logits[0], logits[2])
    texts = [
        mk.predict(m, processor, rows, format="no-think", max_new_tokens=12)["text"].tolist() for m in (model, loaded)
    ]
    assert texts[0] == texts[1]


def test_a_loaded_run_still_knows_where_it_comes_from(trained, val_phantoms):
    model, processor, run = trained
    loaded, _ = mk.load_model(run.path)
    who = ["model", "train_modality", "train_task", "method", "seed"]
    rows = val_phantoms.select(range(2))
    frames = [mk.predict(m, processor, rows, format="no-think", max_new_tokens=4) for m in (model, loaded)]
    assert frames[0][who].iloc[0].tolist() == ["tiny", "all", "all", "sft", 3]
    assert frames[1][who].iloc[0].tolist() == ["tiny", "all", "all", "sft", 3]


def test_an_adapter_of_another_name_goes_before_the_runs_own(trained, tmp_path):
    with pytest.raises(DataError, match="no LoRA adapter at"):
        mk.load_model(trained[2].path, adapter=tmp_path)


def test_an_adapter_without_its_run_does_not_pass_for_the_untrained_base(trained, tmp_path, val_phantoms):
    _, _, run = trained
    shutil.copytree(run.path / "adapter", tmp_path / "copied")
    model, processor = mk.load_model("tiny", adapter=tmp_path / "copied")
    preds = mk.predict(model, processor, val_phantoms.select(range(2)), format="no-think")
    assert set(preds["method"]) == {"given"} and "copied" in preds["model"][0]


def test_the_shipped_model_was_made_by_the_script_as_it_stands():
    import json
    from dataclasses import asdict

    from medr1kit.models.load import TINY
    from scripts.make_tiny.build import Recipe

    log = json.loads((TINY / "build_log.json").read_text())
    assert log["recipe"] == asdict(Recipe())
    assert f"{log['parameters']:,} parameters" in (TINY / "README.md").read_text()


# ---- what its answers are called -------------------------------------------------------------------------------------


SFT = {"model": "tiny", "method": "sft", "seed": 0, "train_modality": "CT", "train_task": None}
BASE = {"model": "tiny", "method": "base"}


def with_adapter(model, label=None):
    """The model in a LoRA wrapper whose adapter changes it, recorded as trained if it has a label."""
    wrapper = wrapped(model, rank=2)
    for name, weight in wrapper.named_parameters():
        if "lora_B" in name:
            weight.data.fill_(0.5)
    if label is not None:
        models.record_training(wrapper, label, "runs/a")
    return wrapper


def labels_of(model):
    return models.origin_of(model).labels


@pytest.mark.parametrize(
    ("name", "method"),
    [("tiny", "base"), (str(models.TINY), "base"), ("Qwen/Qwen2-VL-2B-Instruct", "base"), ("someone/tuned", "given")],
)
def test_base_is_said_only_of_a_base(name, method):
    assert models.Origin(name).labels == {"model": name, "method": method}


def test_a_folder_whose_training_is_not_known_is_given(micro, micro_folder):
    assert labels_of(micro[0]) == {"model": str(micro_folder), "method": "given"}


def test_an_adapter_counts_while_it_acts(fresh_tiny):
    model = with_adapter(fresh_tiny[0], SFT)
    assert labels_of(model) == labels_of(fresh_tiny[0]) == SFT and models.origin_of(model).run == "runs/a"
    with model.disable_adapter():
        assert labels_of(model) == BASE and models.origin_of(model).run is None
    assert labels_of(model) == SFT
    model.merge_adapter()
    assert labels_of(model) == SFT
    model.unmerge_adapter()
    assert labels_of(model) == SFT


@pytest.mark.parametrize(("off", "label"), [("unload", BASE), ("merge_and_unload", SFT)])
@pytest.mark.parametrize("half", [False, True])
def test_an_adapter_taken_off_leaves_the_base_and_a_merged_one_does_not(fresh_tiny, off, label, half):
    model = getattr(with_adapter(fresh_tiny[0], SFT), off)()
    model = model.bfloat16() if half else model
    assert labels_of(model) == label
    assert models.origin_of(model).wrapper is None
    assert models.origin_of(model).name == ("tiny" if off == "unload" else "tiny merged with runs/a")


@pytest.mark.parametrize(("off", "below"), [("unload", BASE), ("merge_and_unload", SFT)])
def test_a_new_adapter_after_that_stands_on_what_was_left(fresh_tiny, off, below):
    getattr(with_adapter(fresh_tiny[0], SFT), off)()
    again = with_adapter(fresh_tiny[0])
    assert labels_of(again) == {"model": "tiny + default", "method": "given"}
    models.record_training(again, SFT | {"method": "grpo"}, "runs/b")
    assert labels_of(again)["method"] == "grpo"
    with again.disable_adapter():
        assert labels_of(again) == below
    assert models.origin_of(again).name == ("tiny" if off == "unload" else "tiny merged with runs/a")


def test_an_adapter_that_others_put_on_is_given(fresh_tiny):
    model = with_adapter(fresh_tiny[0])
    assert labels_of(model) == {"model": "tiny + default", "method": "given"}
    assert labels_of(model.unload()) == BASE
    assert labels_of(wrapped(fresh_tiny[0], rank=2)) == BASE  # as it begins it changes nothing


def test_a_second_adapter_beside_the_trained_one_is_given(fresh_tiny):
    model = with_adapter(fresh_tiny[0], SFT)
    model.add_adapter("mine", mk.lora(rank=2))
    assert labels_of(model) == SFT
    model.set_adapter("mine")
    assert labels_of(model) == {"model": "tiny + mine", "method": "given"}


def test_training_goes_on_from_what_is_there(fresh_tiny):
    model = with_adapter(fresh_tiny[0], SFT)
    models.record_training(model, SFT | {"method": "grpo"}, "runs/b")
    assert labels_of(model)["method"] == "grpo" and models.origin_of(model).run == "runs/b"
    assert labels_of(model.unload()) == BASE


def test_all_weights_trained_leave_no_base(fresh_tiny):
    model = fresh_tiny[0]
    models.record_training(model, SFT, "runs/full")
    origin = models.origin_of(model)
    assert (origin.labels, origin.name, origin.run) == (SFT, "runs/full/model", "runs/full")
    later = with_adapter(model, SFT | {"method": "grpo"})
    assert models.origin_of(later).name == "runs/full/model"
    assert labels_of(later.unload()) == SFT


def test_an_interrupted_training_is_recorded_by_its_word(fresh_tiny, val_phantoms):
    model = with_adapter(fresh_tiny[0])
    models.record_training(model, SFT | {"method": "interrupted"}, "runs/a")
    rows = val_phantoms.select(range(2))
    assert set(mk.predict(model, fresh_tiny[1], rows, format="no-think", max_new_tokens=2)["method"]) == {"interrupted"}


def test_a_run_loaded_and_unloaded_is_its_base(trained, val_phantoms):
    loaded, processor = mk.load_model(trained[2])  # a Run works as its folder does
    assert labels_of(loaded)["method"] == "sft"
    rows = val_phantoms.select(range(2))
    preds = mk.predict(loaded.unload(), processor, rows, format="no-think", max_new_tokens=2)
    assert set(preds["method"]) == {"base"} and preds["train_modality"].isna().all()


@pytest.mark.parametrize("part", ["checkpoint-7", "checkpoint-7 as adapter="])
def test_a_checkpoint_carries_its_step(trained, tmp_path, val_phantoms, part):
    shutil.copytree(trained[2].path, tmp_path / "run")
    folder = (tmp_path / "run/adapter").rename(tmp_path / "run/checkpoint-7")
    model, processor = mk.load_model(folder) if part == "checkpoint-7" else mk.load_model("tiny", adapter=folder)
    preds = mk.predict(model, processor, val_phantoms.select(range(2)), format="no-think", max_new_tokens=2)
    assert set(preds["step"]) == {7} and set(preds["method"]) == {"sft"}


def swapped_pairs(model, processor):
    yield (processor, model), "model and processor are swapped"
    yield ((model, processor), processor), r"model is a tuple; load it first: model, processor = load_model"
    yield ("tiny", processor), "model is the text 'tiny'; load it first"
    yield (None, processor), "model is None; expected what load_model"
    yield (model, None), "processor is None; pass the second"
    yield (model, processor.tokenizer), "processor is .*; pass the second of what load_model"


def test_what_is_no_model_with_its_processor_is_refused(tiny):
    models.pair_given(*tiny)
    for pair, sentence in swapped_pairs(*tiny):
        with pytest.raises(DataError, match=sentence):
            models.pair_given(*pair)
