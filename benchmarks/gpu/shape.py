"""What is measured: a model's shape, pictures, questions, completions; everything drawn here from a seed.

The processor is the built-in model's, so a text has the built-in tokenizer's few words and the embedding a real
model's 151,936 rows: what costs time and memory is of true size, and nothing has to be fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.cases.memory import VOCABULARY, model_of
from benchmarks.gpu.device import Missing

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

_TEXT_2B = {
    "vocab_size": VOCABULARY,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
}
_VISION_2B = {"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "mlp_ratio": 4, "num_heads": 16}
_TEXT_SMALL = {
    "vocab_size": 2000,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
}
_VISION_SMALL = {"depth": 2, "embed_dim": 64, "hidden_size": 64, "mlp_ratio": 2, "num_heads": 4}
_QUESTION = (
    "Which anatomical structure is visible in this image?\nA)hand, B)skull, C)chest, D)pelvis\n"
    "Output the letter of your choice in <answer></answer>."
)


@dataclass(frozen=True)
class Shape:
    """Sizes of a measurement.

    Attributes:
        name: of the model, for the report.
        text, vision: entries of the two parts of a Qwen2-VL configuration.
        side: width and height of the pictures in pixels.
        prompts, group: questions a step, and completions of each.
        new_tokens: of every completion.
        seconds: for which the machine may be used; what would not fit is left out.
    """

    name: str = "Qwen2-VL-2B"
    text: Mapping[str, Any] = field(default_factory=lambda: _TEXT_2B)
    vision: Mapping[str, Any] = field(default_factory=lambda: _VISION_2B)
    side: int = 384
    prompts: int = 4
    group: int = 8
    new_tokens: int = 128
    seconds: float = 420

    @property
    def rows(self) -> int:
        """Completions a step."""
        return self.prompts * self.group


FULL = Shape()
SMALL = Shape("a small model", _TEXT_SMALL, _VISION_SMALL, side=112, prompts=2, group=2, new_tokens=12, seconds=100)


def model_for(shape: Shape, device: str, dtype: str = "bfloat16", attn: str = "sdpa") -> tuple[Any, Any]:
    """Return a model of the shape, the same weights each time, and its processor."""
    from transformers import AutoConfig, Qwen2VLConfig

    from medr1kit.models.load import TINY

    built_in = AutoConfig.from_pretrained(TINY)  # its tokenizer's ids
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    ends = {name: getattr(built_in.text_config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = Qwen2VLConfig(
        text_config={**shape.text, **ends, "tie_word_embeddings": True},
        vision_config=dict(shape.vision),
        tie_word_embeddings=True,
        **{name: getattr(built_in, name) for name in names},
    )
    return model_of(config, device, dtype, attn, max_pixels=4 * shape.side**2)


def with_adapter(model: Any) -> Any:
    """The model with LoRA of rank 16 on its language model, whose second factors are not zero."""
    import torch
    from peft import get_peft_model

    from medr1kit.models.adapters import lora

    torch.manual_seed(1)
    wrapped = get_peft_model(model, lora(rank=16, alpha=32))
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    return wrapped


def pictures(shape: Shape, n: int) -> list[Image]:
    """Pictures of soft blotches, each another one."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (n, 12, 12, 3), dtype=np.uint8)
    return [Image.fromarray(blotches).resize((shape.side, shape.side), Image.Resampling.BICUBIC) for blotches in coarse]


def conversations(shape: Shape) -> list[list[dict]]:
    """What is asked, a row a completion: each question stands there once for each of its group."""
    asked = [
        [{"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": _QUESTION}]}]
        for picture in pictures(shape, shape.prompts)
    ]
    return [turn for turn in asked for _ in range(shape.group)]


def questions(shape: Shape, n: int) -> Any:
    """A data set as TRL takes it: n questions, each about a picture of its own."""
    from datasets import Dataset

    asked = [[{"role": "user", "content": _QUESTION}]] * n
    return Dataset.from_dict({"prompt": asked, "image": pictures(shape, n)})


def completions(shape: Shape, model: Any) -> torch.Tensor:
    """Token ids of every completion, (rows, tokens), drawn from the whole vocabulary but for what stands for images."""
    import torch

    from medr1kit.models.load import base_of, image_token_ids

    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(shape.text["vocab_size"], (shape.rows, shape.new_tokens), generator=generator)
    barred = torch.isin(ids, torch.tensor(image_token_ids(base_of(model))))
    return torch.where(barred, 0, ids).to(base_of(model).device)


def refuse_unreadable(model: Any) -> None:
    """Refuse to share the prompts of a model where that would not be exact.

    Raises:
        Missing: saying why not.
    """
    from medr1kit.models.shared_prefix.answering import why_not_read

    if reason := why_not_read(model):
        raise Missing(f"prompts are not shared: {reason}")


def padded(processor: Any, asked: list[list[dict]], device: str) -> dict[str, Any]:
    """The prompts of all rows with their pixels, as stock transformers takes them."""
    texts = processor.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    shown = [[turn[0]["content"][0]["image"]] for turn in asked]
    return processor(text=texts, images=shown, padding=True, padding_side="left", return_tensors="pt").to(device)
