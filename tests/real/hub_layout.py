"""Model folders as the Hub has them, small and random but for the tokenizer, which is Qwen's own with all its words.

The built-in model has 1,700 words, tied weights and files of today. What is published has 151,936 rows of embeddings, a
vocabulary in which ``>`` and ``C`` melt into one token, settings of sampling that must not leak, and files and tensor
names of transformers 4. The three folders differ as the families do: Qwen2-VL and Qwen3-VL with a tied head, Qwen2.5-VL
with a head of its own, as its 7B has; Qwen2-VL and Qwen2.5-VL under the tensor names from before transformers 4.52.
"""

import base64
import json
from functools import cache
from itertools import pairwise
from pathlib import Path

RANKS = Path(__file__).resolve().parents[2] / ".real" / "dashscope" / "resources" / "qwen.tiktoken"

_SPECIAL = "<|endoftext|> <|im_start|> <|im_end|> <|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|>"
_SPECIAL += " <|quad_start|> <|quad_end|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|>"
_PLAIN = "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|>"
_THINK = "<tool_response> </tool_response> <think> </think>"  # one token each in Qwen3, but no special ones
_ADDED = {"Qwen2-VL": 0, "Qwen2.5-VL": 8, "Qwen3-VL": 12}  # of those that are not special

_SYSTEM = (
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
)
_TEMPLATE = (
    "{% for message in messages %}SYSTEM<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for content in message['content'] %}{% if content['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_TEXT = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4}
_TEXT |= {"num_key_value_heads": 2, "hidden_act": "silu", "rms_norm_eps": 1e-6, "vocab_size": 151936}
_TEXT |= {"bos_token_id": 151643, "eos_token_id": 151645, "attention_dropout": 0.0, "max_position_embeddings": 32768}
_TEXT |= {"initializer_range": 0.2}  # the Hub's is .02, by which random answers would hardly depend on the picture
_IDS = {"image_token_id": 151655, "video_token_id": 151656, "vision_start_token_id": 151652}
_IDS |= {"vision_end_token_id": 151653}
_OLD = {"rope_theta": 1e6, "torch_dtype": "bfloat16", "transformers_version": "4.41.2", "vision_token_id": 151654}
_OLD |= {"rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}}
_SIGHT = {"depth": 2, "num_heads": 4, "temporal_patch_size": 2, "spatial_merge_size": 2, "initializer_range": 0.2}
_WIDTH = {"hidden_size": 64, "out_hidden_size": 64, "intermediate_size": 160}

CONFIG = {
    "Qwen2-VL": _TEXT
    | _IDS
    | _OLD
    | {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        "tie_word_embeddings": True,
        "vision_config": _SIGHT | {"embed_dim": 64, "mlp_ratio": 4, "hidden_size": 64, "in_chans": 3, "patch_size": 14},
    },
    "Qwen2.5-VL": _TEXT
    | _IDS
    | _OLD
    | {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "tie_word_embeddings": False,
        "vision_config": _SIGHT
        | _WIDTH
        | {"in_chans": 3, "patch_size": 14, "window_size": 112, "fullatt_block_indexes": [1], "tokens_per_second": 2},
    },
    "Qwen3-VL": _IDS
    | {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": "qwen3_vl",
        "tie_word_embeddings": True,
        "transformers_version": "4.57.0.dev0",
        "text_config": _TEXT
        | {"model_type": "qwen3_vl_text", "head_dim": 16, "rope_theta": 5e6, "dtype": "bfloat16"}
        | {"rope_scaling": {"mrope_interleaved": True, "mrope_section": [2, 3, 3], "rope_type": "default"}},
        "vision_config": _SIGHT
        | _WIDTH
        | {"model_type": "qwen3_vl", "in_channels": 3, "patch_size": 16, "num_position_embeddings": 2304}
        | {"deepstack_visual_indexes": [0]},
    },
}
_GENERATION = {
    "Qwen2-VL": {"temperature": 0.01, "top_p": 0.001, "top_k": 1},
    "Qwen2.5-VL": {"temperature": 0.000001, "repetition_penalty": 1.05},
    "Qwen3-VL": {"temperature": 0.7, "top_p": 0.8, "top_k": 20},
}


def build(folder: Path, family: str) -> None:
    """Write a folder of "Qwen2-VL", "Qwen2.5-VL" or "Qwen3-VL": settings, tokenizer, random weights in bfloat16."""
    folder.mkdir(parents=True)
    ends = {"bos_token_id": 151643, "pad_token_id": 151643, "eos_token_id": [151645, 151643], "do_sample": True}
    _write(folder / "config.json", CONFIG[family])
    _write(folder / "generation_config.json", ends | _GENERATION[family])
    _write_tokenizer(folder, family)
    _write_processor(folder, family)
    _write_weights(folder)


def _write(file: Path, content: dict) -> None:
    file.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _write_tokenizer(folder: Path, family: str) -> None:
    from transformers import AddedToken, Qwen2Tokenizer

    vocabulary, merges = vocabulary_and_merges()
    names = [*_SPECIAL.split(), *f"{_PLAIN} {_THINK}".split()[: _ADDED[family]]]
    special = {name: name in _SPECIAL.split() for name in names}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=merges)
    tokenizer.add_tokens([AddedToken(name, normalized=False, special=special[name]) for name in names])
    for file in tokenizer.save_pretrained(folder):
        if not file.endswith("tokenizer.json"):
            Path(file).unlink()
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("".join(f"{one} {other}\n" for one, other in merges), encoding="utf-8")
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    added = {151643 + i: {"content": name, "special": special[name], **flags} for i, name in enumerate(names)}
    template = _TEMPLATE.replace("SYSTEM", "" if family == "Qwen3-VL" else _SYSTEM)
    settings = {"added_tokens_decoder": added, "additional_special_tokens": _SPECIAL.split()[1:], "bos_token": None}
    settings |= {"chat_template": template, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None}
    settings |= {"errors": "replace", "model_max_length": 32768, "tokenizer_class": "Qwen2Tokenizer"}
    settings |= {"add_prefix_space": False, "clean_up_tokenization_spaces": False, "split_special_tokens": False}
    _write(folder / "tokenizer_config.json", settings)
    _write(folder / "chat_template.json", {"chat_template": template})


@cache
def vocabulary_and_merges() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Qwen's vocabulary as transformers writes it: bytes as letters, and for each longer word the two it is made of."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    lines = RANKS.read_bytes().splitlines()
    ranks = {base64.b64decode(word): int(rank) for word, rank in map(bytes.split, lines)}
    letters = bytes_to_unicode()
    spell = {word: "".join(letters[byte] for byte in word) for word in ranks}
    merges = [tuple(spell[part] for part in _parts(word, ranks)) for word in sorted(ranks, key=ranks.get) if word[1:]]
    return {spell[word]: rank for word, rank in ranks.items()}, merges


def _parts(word: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The two words whose merging makes this one: what byte pair encoding leaves before its last step."""
    parts = [bytes([byte]) for byte in word]
    while len(parts) > 2:
        pairs = [ranks.get(one + other, len(ranks)) for one, other in pairwise(parts)]
        at = pairs.index(min(pairs))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _write_processor(folder: Path, family: str) -> None:
    shared = {"patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
    clip = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
    pixels = {"min_pixels": 3136, "max_pixels": 12845056}
    if family == "Qwen3-VL":
        shared |= {"patch_size": 16, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        images = {"size": {"longest_edge": 16777216, "shortest_edge": 65536}, "processor_class": "Qwen3VLProcessor"}
        videos = {"size": {"longest_edge": 25165824, "shortest_edge": 4096}, "processor_class": "Qwen3VLProcessor"}
        _write(folder / "preprocessor_config.json", shared | images | {"image_processor_type": _FAST})
        _write(folder / "video_preprocessor_config.json", shared | videos | {"video_processor_type": _VIDEO})
    else:
        name = {"processor_class": "Qwen2VLProcessor" if family == "Qwen2-VL" else "Qwen2_5_VLProcessor"}
        settings = shared | clip | pixels | name | {"image_processor_type": "Qwen2VLImageProcessor"}
        _write(folder / "preprocessor_config.json", settings)


_FAST, _VIDEO = "Qwen2VLImageProcessorFast", "Qwen3VLVideoProcessor"


def _write_weights(folder: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder), dtype=torch.bfloat16)
    model.save_pretrained(folder / "saved")
    (folder / "saved" / "model.safetensors").rename(folder / "model.safetensors")
    for file in (folder / "saved").iterdir():
        file.unlink()
    (folder / "saved").rmdir()
