"""What turns a question into a model's input: tokenizer, chat template and image processor, without torchvision.

The processors of transformers cannot be built without torchvision, because each insists on a video processor; and the
CPU environment must not hold torchvision. :func:`image_processor_only` therefore derives, from each stock processor, a
class that takes images and text and has no video part. It writes and reads the stock file layout.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from medr1kit.given import whole_number
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from transformers import ProcessorMixin

# Architectures whose language model, merger and image tokens medr1kit knows by name.
SUPPORTED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


def image_processor_only(stock: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """Derive from a stock Qwen-VL processor a class without its video part.

    ``ProcessorMixin`` reads from the signature of ``__init__`` which parts a processor has, so leaving out
    ``video_processor`` is enough. The stock name is kept, so that a saved folder names a class that transformers knows.
    """

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        stock.__init__(self, image_processor, tokenizer, None, chat_template=chat_template, **kwargs)

    def __call__(self, images=None, text=None, videos=None, **kwargs):
        if videos is not None:
            raise DataError("medr1kit works on images; videos= is not supported")
        return stock.__call__(self, images=images, text=text, **kwargs)

    return type(stock.__name__, (stock,), {"__init__": __init__, "__call__": __call__, "__doc__": stock.__doc__})


def _stock_processor(model_type: str) -> type[ProcessorMixin]:
    from transformers import Qwen2_5_VLProcessor, Qwen2VLProcessor, Qwen3VLProcessor

    return dict(zip(SUPPORTED, (Qwen2VLProcessor, Qwen2_5_VLProcessor, Qwen3VLProcessor)))[model_type]


def load_processor(path: str | Path, model_type: str, max_pixels: int | None = None) -> ProcessorMixin:
    """Load tokenizer, chat template and image processor of a Qwen-VL checkpoint, without torchvision.

    Args:
        path: folder or hub id.
        model_type: one of SUPPORTED.
        max_pixels: images are shrunk until width times height is at most this; None keeps the checkpoint's setting.

    Raises:
        DataError: if ``max_pixels`` is less than one image token covers, or the chat template writes no image.
    """
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    processor = image_processor_only(_stock_processor(model_type)).from_pretrained(
        path, padding_side="left", trust_remote_code=False
    )
    # Pillow also where torchvision is installed, so that pixels do not depend on the machine.
    images = processor.image_processor = Qwen2VLImageProcessorPil.from_pretrained(path)
    if max_pixels is not None:
        whole_number(max_pixels, "max_pixels", (images.patch_size * images.merge_size) ** 2)
        # a floor above the cap would enlarge small images past it
        floor = min(images.size["shortest_edge"], max_pixels)
        images.size = type(images.size)(**{**dict(images.size), "shortest_edge": floor, "longest_edge": max_pixels})
    prompt = user_turn(processor, "?")
    if processor.image_token not in prompt:
        raise DataError(f"the chat template of {path} leaves the image out of a user turn; it is one of a text model")
    warn_of_open_thinking(prompt)
    return processor


def user_turn(processor: ProcessorMixin, text: str) -> str:
    """Return the text that a model reads: an image and then ``text`` in its chat template, up to its own turn."""
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
    return processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)


def warn_of_open_thinking(prompt: str) -> None:
    """Say so if a prompt ends inside the thinking, as the templates of "Thinking" checkpoints have it.

    Nothing is put before the completion: reward and evaluation read the same text, the one that the model wrote.
    """
    if prompt.rstrip().endswith("<think>"):
        warnings.warn(
            "the chat template opens the thinking itself: the prompt ends with <think>, so a completion goes on inside "
            "and has no <think> of its own, and no answer in think-before is well-formed; edit processor.chat_template "
            "so that the prompt ends with the assistant's line",
            stacklevel=3,
        )
