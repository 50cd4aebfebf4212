"""Shared by the tests that run a model: one core, no network, and models small enough to train in a second.

The environment is set here, at import, because OpenMP and the Hugging Face libraries read it when they are imported.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # spinning threads starve whatever else runs on the machine
os.environ["GOMP_SPINCOUNT"] = "0"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("CI", "tests")  # hides medr1kit's progress bars
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the tests mean the CPU, also on a machine with a GPU
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts us behind its back ignores Ctrl-C

import pytest

MICRO = ("qwen2_5_vl", "qwen3_vl")  # the built-in model is the third architecture, qwen2_vl


@pytest.fixture(autouse=True)
def no_open_figures():
    """A test finds no figure that another, or a docstring's example, has left open."""
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture(scope="session")
def one_thread():
    """Torch on one thread: with a busy neighbour, two are slower than one."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny(one_thread):
    """The built-in model and its processor, shared; for tests that change neither."""
    import medr1kit as mk

    return mk.load_model("tiny")


@pytest.fixture
def fresh_tiny(one_thread):
    """A built-in model of one's own and its processor, for tests that train it or change its settings."""
    import medr1kit as mk

    return mk.load_model("tiny")


@pytest.fixture(scope="session")
def train_phantoms():
    """32 training phantoms of a machine that the built-in model has not seen: it errs, and groups differ."""
    import medr1kit as mk

    return mk.load_vqa("phantoms", split="train", n=32, scanner="B")


@pytest.fixture(scope="session")
def val_phantoms():
    """80 validation phantoms: two of each modality and task."""
    import medr1kit as mk

    return mk.load_vqa("phantoms", split="val", n=80)


@pytest.fixture(scope="session", params=MICRO)
def micro_folder(request, tiny, tmp_path_factory):
    """Folder of a two-layer Qwen2.5-VL or Qwen3-VL with random weights and the built-in model's tokenizer."""
    folder = tmp_path_factory.mktemp(request.param)
    _save_micro(request.param, tiny[1], folder)
    return folder


@pytest.fixture
def micro(micro_folder):
    """A micro model of one's own and its processor."""
    import medr1kit as mk

    return mk.load_model(micro_folder)


def _save_micro(architecture: str, tiny_processor, folder) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from medr1kit.models.processor import _stock_processor, image_processor_only

    tokenizer = tiny_processor.tokenizer
    names = ("image_pad", "video_pad", "vision_start", "vision_end")
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in names}
    text = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 2048}
    wide = {"initializer_range": 0.2}  # so that random answers depend on the input
    text |= {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    vision = {"depth": 2, "hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 64, "num_heads": 2}
    if architecture == "qwen2_5_vl":
        vision |= {"patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]}
    else:
        rope |= {"mrope_interleaved": True}
        vision |= {"patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1], "depth": 3}
    config = AutoConfig.for_model(
        architecture,
        text_config=text | wide | {"rope_parameters": rope},
        vision_config=vision | wide,
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    pixels = (4 * vision["patch_size"]) ** 2
    images = Qwen2VLImageProcessorPil(
        size={"shortest_edge": pixels, "longest_edge": pixels}, patch_size=vision["patch_size"]
    )
    processor_class = image_processor_only(_stock_processor(architecture))
    processor_class(images, tokenizer, chat_template=tokenizer.chat_template).save_pretrained(folder)
