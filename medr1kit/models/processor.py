"""What turns a question into a model's input: tokenizer, chat template and image processor, without torchvision.

The processors of transformers cannot be built without torchvision, because each insists on a video processor; and the
CPU environment must not hold torchvision. :func:`image_processor_only` therefore derives, from each stock processor, a
class that takes images and text and has no video part. What it saves the stock processor reads, video part and all.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from medr1kit.given import whole_number
from medr1kit.vqa import DataError

if TYPE_CHECKING:
    from transformers import ProcessorMixin

# Architectures whose language model, merger and image tokens medr1kit knows by name.
SUPPORTED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
_IMAGES, _VIDEOS = "Qwen2VLImageProcessor", {"Qwen3VLProcessor": "Qwen3VLVideoProcessor"}  # Qwen2.5-VL's are Qwen2-VL's


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

    def save_pretrained(self, save_directory, **kwargs):
        written = stock.save_pretrained(self, save_directory, **kwargs)
        write_parts(self, Path(save_directory))
        return written

    methods = {"__init__": __init__, "__call__": __call__, "save_pretrained": save_pretrained}
    return type(stock.__name__, (stock,), {**methods, "__doc__": stock.__doc__})


def write_parts(processor: ProcessorMixin, folder: Path) -> None:
    """Write the settings of image and video processor each in a file of its own.

    Earlier releases of transformers, and what is built on them, read only these; and no release builds a processor from
    a folder that says nothing of videos. Sizes of videos are left to the stock class: nothing here ever used them.
    """
    name = type(processor).__name__
    images = processor.image_processor.to_dict() | {"processor_class": name, "image_processor_type": _IMAGES}
    shared = ("patch_size", "temporal_patch_size", "merge_size", "image_mean", "image_std")
    videos = {"processor_class": name, "video_processor_type": _VIDEOS.get(name, "Qwen2VLVideoProcessor")}
    videos |= {key: images[key] for key in shared}
    for file, settings in (("preprocessor_config.json", images), ("video_preprocessor_config.json", videos)):
        text = json.dumps(settings, indent=2, sort_keys=True, default=int)  # how to resample is an enum
        (folder / file).write_text(text + "\n", encoding="utf-8")


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
        DataError: if ``max_pixels`` is less than one image token covers, or the chat template does not write one
            placeholder for one image.
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
    # Two files may hold a template; the processor's own wins, and whoever asks the tokenizer gets the same.
    template = processor.chat_template or processor.tokenizer.chat_template
    if not template:
        raise DataError(
            f"{path} has no chat template; copy chat_template.jinja (or .json) from where the model is from"
        )
    processor.chat_template = processor.tokenizer.chat_template = template
    prompt = user_turn(processor, "?")
    found = prompt.count(processor.image_token)
    if found == 0:
        raise DataError(f"the chat template of {path} leaves the image out of a user turn; it is one of a text model")
    if found > 1:
        raise DataError(
            f"the chat template of {path} writes {found} placeholders ({processor.image_token}) for one image, and it "
            "would be read as several; take the template that the model came with"
        )
    warn_of_open_thinking(prompt)
    return processor


def user_turn(processor: ProcessorMixin, text: str, image: bool = True) -> str:
    """Return the text that a model reads: an image, if any, then ``text`` in its chat template, up to its own turn."""
    turn = [{"role": "user", "content": [{"type": "image"}] * image + [{"type": "text", "text": text}]}]
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
