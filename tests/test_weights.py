"""Were these weights really loaded: damaged, incomplete and foreign folders are refused in one sentence."""

import json
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

import medr1kit as mk
from medr1kit.models.load import TINY, origin_of
from medr1kit.vqa import DataError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
WEIGHTS, ADAPTER = "model.safetensors", "adapter_model.safetensors"


@pytest.fixture(scope="module")
def adapter_folder(one_thread, tmp_path_factory):
    """A LoRA adapter of the built-in model, as peft writes it, that changes its answers."""
    from peft import LoraConfig, get_peft_model

    wrapped = get_peft_model(
        mk.load_model("tiny")[0], LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    )
    torch.manual_seed(0)
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(0, 0.5)
    folder = tmp_path_factory.mktemp("adapters") / "mine"
    wrapped.save_pretrained(folder)
    return folder


@pytest.fixture
def base(tmp_path):
    return shutil.copytree(TINY, tmp_path / "base")


@pytest.fixture
def adapter(adapter_folder, tmp_path):
    return shutil.copytree(adapter_folder, tmp_path / "adapter")


def rewrite(file, change):
    """Change a file's tensors: name, tensor -> name and tensor, or None to leave it out."""
    changed = [change(name, tensor) for name, tensor in load_file(file).items()]
    save_file(dict(pair for pair in changed if pair is not None), file, metadata={"format": "pt"})


def renamed(old, new):
    return lambda name, tensor: (name.replace(old, new), tensor)


def same_weights(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values()))


# ---- a base ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["as shipped", "of transformers 4.52 and later"])
def test_tensor_names_of_every_time_load(base, tiny, names):
    if names != "as shipped":  # the built-in file has the names from before
        rewrite(base / WEIGHTS, renamed("model.", "model.language_model."))
        rewrite(base / WEIGHTS, renamed("visual.", "model.visual."))
    assert any(name.startswith("model.language_model") for name in load_file(base / WEIGHTS)) == (names != "as shipped")
    assert same_weights(mk.load_model(base)[0], tiny[0])


def test_a_layer_that_the_file_does_not_hold_is_refused(base):
    rewrite(base / WEIGHTS, lambda name, tensor: None if ".layers.2." in name else (name, tensor))
    with pytest.raises(DataError, match=r"base lacks 12 tensors \(model.language_model.layers.2.*would be random"):
        mk.load_model(base)


def test_names_of_another_kind_are_refused_and_both_sides_told(base):
    rewrite(base / WEIGHTS, lambda name, tensor: (f"module.{name}", tensor))
    with pytest.raises(DataError, match=r"lacks 94 tensors .* and holds 94 tensors that fit no layer \(module\."):
        mk.load_model(base)


def test_a_tensor_that_fits_no_layer_is_said(base, tiny):
    save_file(load_file(base / WEIGHTS) | {"model.gate": torch.ones(2)}, base / WEIGHTS, metadata={"format": "pt"})
    with pytest.warns(UserWarning, match=r"holds 1 tensor that fit no layer \(.*gate, …\); they are left out"):
        model, _ = mk.load_model(base)
    assert same_weights(model, tiny[0])


def test_a_tensor_of_another_size_is_refused(base):
    grow = lambda name, tensor: (name, tensor[:-1].contiguous() if "layers.1.mlp.up_proj" in name else tensor)  # noqa: E731
    rewrite(base / WEIGHTS, grow)
    with pytest.raises(DataError, match=r"1 tensor of another size than config.json says \(.*up_proj.*319.*not .320"):
        mk.load_model(base)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(base, value):
    tensors = load_file(base / WEIGHTS)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = value
    save_file(tensors, base / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(DataError, match=r"1 tensor with NaN or infinite values \(.*layers.1.mlp.up_proj"):
        mk.load_model(base)


def test_weights_of_nothing_but_zeros_are_refused(base):
    rewrite(base / WEIGHTS, lambda name, tensor: (name, tensor * ("layers.1.mlp.up_proj" not in name)))
    with pytest.raises(DataError, match=r"1 tensor of nothing but zeros .*layers.1.mlp.up_proj.weight"):
        mk.load_model(base)


def test_weights_that_half_precision_cannot_hold_are_refused(base):
    rewrite(base / WEIGHTS, lambda name, tensor: (name, tensor.float() * 1e7 if "up_proj" in name else tensor))
    mk.load_model(base)
    with pytest.raises(DataError, match=r"do not fit into torch\.float16"):
        mk.load_model(base, dtype="fp16")


@pytest.mark.parametrize("file", sorted(file.name for file in TINY.iterdir() if file.suffix != ".md"))
@pytest.mark.parametrize("damage", ["pointer", "cut short"])
def test_a_damaged_file_ends_in_one_sentence_that_names_the_folder(base, file, damage):
    if damage == "cut short" and file == "chat_template.jinja":
        (base / file).write_text("{% for message in messages %}{{ message.", encoding="utf-8")
    else:
        content = (base / file).read_bytes()
        (base / file).write_bytes(POINTER if damage == "pointer" else content[: len(content) // 2])
    with pytest.raises(DataError, match=f"{base}.*{'Git LFS pointer' if damage == 'pointer' else 'cannot be loaded'}"):
        mk.load_model(base)


def test_pickles_are_not_read(base):
    torch.save(load_file(base / WEIGHTS), base / "pytorch_model.bin")
    (base / WEIGHTS).unlink()
    with pytest.raises(DataError, match=r"base holds pickles \(.bin\), which are not read"):
        mk.load_model(base)


def test_code_that_a_folder_brings_is_neither_run_nor_asked_for(base, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question on the terminal"))
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(
        json.dumps(config | {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}})
    )
    (base / "mine.py").write_text("raise SystemExit('ran')")
    with pytest.raises(DataError, match="is a mine model; medr1kit supports"):
        mk.load_model(base)


@pytest.mark.parametrize("how", ["another image token", "a longer vocabulary"])
def test_a_tokenizer_of_another_model_is_refused(base, how):
    if how == "another image token":
        config = json.loads((base / "config.json").read_text())
        (base / "config.json").write_text(json.dumps(config | {"image_token_id": 3}))
    else:
        tokenizer = mk.load_model("tiny")[1].tokenizer
        tokenizer.add_tokens(["one more"])
        tokenizer.save_pretrained(base)
    with pytest.raises(DataError, match=r"the tokenizer of .*base is not that of its config\.json"):
        mk.load_model(base)


def test_a_chat_template_that_leaves_the_image_out_is_refused(base):
    text = "{% for m in messages %}{% for c in m.content %}{{ c.text }}{% endfor %}{% endfor %}"
    (base / "chat_template.jinja").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="leaves the image out"):
        mk.load_model(base)


def test_a_template_that_writes_two_placeholders_for_one_image_is_refused(base):
    file = base / "chat_template.jinja"
    text = file.read_text(encoding="utf-8").replace("<|image_pad|>", "<|image_pad|><|image_pad|>")
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"writes 2 placeholders \(<\|image_pad\|>\) for one image"):
        mk.load_model(base)


def _give_the_tokenizer(base, template):
    settings = json.loads((base / "tokenizer_config.json").read_text(encoding="utf-8"))
    (base / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": template}), encoding="utf-8")


@pytest.mark.parametrize("file", ["chat_template.jinja", "chat_template.json"])
def test_the_processors_own_template_wins_over_the_tokenizers_for_whoever_asks(base, file):
    right = (base / "chat_template.jinja").read_text(encoding="utf-8")
    (base / "chat_template.jinja").unlink()
    (base / file).write_text(json.dumps({"chat_template": right}) if file.endswith("json") else right)
    _give_the_tokenizer(base, "{% for m in messages %}{{ m.content }}{% endfor %}")
    processor = mk.load_model(base)[1]
    assert processor.chat_template == processor.tokenizer.chat_template == right


def test_a_template_that_only_the_tokenizer_has_is_taken_and_none_is_refused(base):
    right = (base / "chat_template.jinja").read_text(encoding="utf-8")
    (base / "chat_template.jinja").unlink()
    with pytest.raises(DataError, match=r"base has no chat template; copy chat_template\.jinja"):
        mk.load_model(base)
    _give_the_tokenizer(base, right)
    assert mk.load_model(base)[1].chat_template == right


def test_a_chat_template_that_opens_the_thinking_is_said_on_loading(base):
    file = base / "chat_template.jinja"
    opened = file.read_text(encoding="utf-8").replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")
    file.write_text(opened, encoding="utf-8")
    with pytest.warns(UserWarning, match="opens the thinking itself.*edit processor.chat_template"):
        mk.load_model(base)


# ---- an adapter ------------------------------------------------------------------------------------------------------


def last_factors(model):
    return {name: weight for name, weight in model.named_parameters() if "lora_B" in name}


@pytest.mark.parametrize("old", [False, True])
def test_an_adapter_loads_under_its_old_and_its_new_names(adapter, adapter_folder, old):
    if old:
        rewrite(adapter / ADAPTER, renamed("model.language_model.layers", "model.layers"))
    there = last_factors(mk.load_model("tiny", adapter=adapter)[0])
    wanted = load_file(adapter_folder / ADAPTER)
    assert len(there) == 4
    assert all(torch.equal(w, wanted[name.replace(".default", "")]) for name, w in there.items())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            renamed("model.language_model", "language_model.model"),
            "8 of its tensors have no place .* 8 places no tensor",
        ),
        (lambda name, tensor: None if ".layers.1." in name else (name, tensor), "0 of its .* 2 places no tensor"),
        (lambda name, tensor: (name, tensor[:2].contiguous()), "cannot be loaded .*size mismatch.*is it of this base"),
        (renamed("base_model.model.", ""), "holds no adapter of peft's: 8 tensors named otherwise"),
        (lambda name, tensor: (name, tensor * float("nan")), "with .*adapter has 8 tensors with NaN"),
    ],
    ids=["other names", "half of it", "another rank", "no prefix", "nan"],
)
def test_an_adapter_that_does_not_fit_is_refused(adapter, change, sentence):
    rewrite(adapter / ADAPTER, change)
    with pytest.raises(DataError, match=sentence):
        mk.load_model("tiny", adapter=adapter)


@pytest.mark.parametrize("file", [ADAPTER, "adapter_config.json"])
@pytest.mark.parametrize("damage", ["pointer", "cut short"])
@pytest.mark.parametrize("given", ["adapter=", "alone"])
def test_a_damaged_adapter_ends_in_one_sentence(adapter, file, damage, given):
    content = (adapter / file).read_bytes()
    (adapter / file).write_bytes(POINTER if damage == "pointer" else content[: len(content) // 2])
    with pytest.raises(DataError, match=str(adapter)):
        mk.load_model(adapter) if given == "alone" else mk.load_model("tiny", adapter=adapter)


@pytest.mark.parametrize(
    "settings", [{"peft_type": "NEW"}, {"target_modules": ["nope"]}, {"r": "8"}, {"r": 8}], ids=lambda s: str(s)
)
def test_settings_that_peft_cannot_follow_end_in_one_sentence(adapter, settings):
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | settings))
    with pytest.raises(DataError, match=f"the adapter at {adapter} cannot be loaded"):
        mk.load_model("tiny", adapter=adapter)


def test_a_pickled_adapter_is_not_read(adapter):
    torch.save(load_file(adapter / ADAPTER), adapter / "adapter_model.bin")
    (adapter / ADAPTER).unlink()
    with pytest.raises(DataError, match=r"has no adapter_model\.safetensors; pickles"):
        mk.load_model("tiny", adapter=adapter)


def test_an_adapter_that_changes_nothing_is_said(adapter):
    rewrite(adapter / ADAPTER, lambda name, tensor: (name, tensor * 0 if "lora_B" in name else tensor))
    with pytest.warns(UserWarning, match="changes nothing"):
        mk.load_model("tiny", adapter=adapter)


@pytest.mark.parametrize("nothing", ["scaling", "lora_A"])
def test_an_adapter_whose_product_is_zero_is_said(adapter, nothing):
    if nothing == "scaling":
        file = adapter / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"lora_alpha": 0}))
    else:
        rewrite(adapter / ADAPTER, lambda name, tensor: (name, tensor * (nothing not in name)))
    with pytest.warns(UserWarning, match="changes nothing"):
        mk.load_model("tiny", adapter=adapter)


def test_an_adapter_that_brings_whole_layers_loads(tmp_path):
    from peft import LoraConfig, get_peft_model

    asked = LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM")
    get_peft_model(mk.load_model("tiny")[0], asked).save_pretrained(tmp_path / "whole")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, _ = mk.load_model("tiny", adapter=tmp_path / "whole")
    assert origin_of(model).labels["method"] == "given"


def test_an_adapter_on_another_base_of_the_same_sizes_is_said(adapter, base):
    other = shutil.copytree(base, base.parent / "other")
    with pytest.warns(UserWarning, match="was trained on .*checkpoint, .*and is put on .*other; is that the same"):
        mk.load_model(other, adapter=adapter)


def test_a_model_saved_with_its_adapter_inside_names_what_to_load(adapter, tmp_path):
    model, processor = mk.load_model("tiny", adapter=adapter)
    for part in (model.get_base_model(), processor):
        part.save_pretrained(tmp_path / "saved")
    with pytest.raises(DataError, match="was saved with a LoRA adapter inside; load the run that trained it, or save"):
        mk.load_model(tmp_path / "saved")


def test_weights_that_others_have_changed_are_no_base(fresh_tiny):
    model, _ = fresh_tiny
    assert origin_of(model).labels["method"] == "base"
    before = model.lm_head.weight.data.clone()
    model.lm_head.weight.data += 0.01
    assert origin_of(model).labels == {"model": "tiny, changed", "method": "given"}
    model.lm_head.weight.data.copy_(before)
    assert origin_of(model.to(torch.bfloat16)).labels["method"] == "base", "a cast changes nothing"


def test_loading_what_is_in_order_says_nothing(adapter, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mk.load_model("tiny", adapter=adapter)
    assert capfd.readouterr() == ("", "")
