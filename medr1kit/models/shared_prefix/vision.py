"""Pictures once a file, and their vision features once an image.

A picture is decoded only when somebody looks at its pixels: one whose features are known is recognised by a digest of
its file. Pillow decodes at the first look; only the few files that may have to be turned or converted are decoded at
once, by ``datasets``.

A frozen vision tower turns an image into the same features at every step, so they are computed once and kept, under the
digest of the pixels, within a bound on memory. If only the *merger* (the last two linear maps of the tower) is trained,
what enters the merger is kept instead, and the merger runs each time, with its gradient; so with Qwen3-VL's deepstack
mergers, whose inputs come from blocks inside the tower. If more of the tower is trained nothing is kept, so nothing can
outlive an optimizer step or serve a reference whose adapters are off. Then an image is encoded once a pass: not once a
row, nor once a prompt; autograd adds up what all who show it send back.

For answering, features are kept from one reader to the next as long as tower and preprocessing are the same
(:func:`kept_features`): a trained model is mostly asked the questions that its base was asked, and a probe asks them
several times.
"""

from __future__ import annotations

import hashlib
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from medr1kit.models.adapters import acting_adapters
from medr1kit.models.digests import exact_digest

if TYPE_CHECKING:
    import datasets

# In the ``info`` of a picture: a digest of the file that it was opened from.
FILE_DIGEST = "medr1kit file digest"
# Metadata that may say how to turn an image; they stand anywhere in a file.
_MAY_TURN = (b"Exif", b"eXIf", b"tiff:Orientation")
# How the names of a tower's parts begin that turn its hidden states into inputs of the language model.
_MERGERS = ("merger.", "deepstack_merger_list.")
# Patches encoded at a time on a CPU: what one layer makes of them stays in the cache, which is a third faster.
CPU_PATCHES = 1024


@dataclass(frozen=True)
class Pixels:
    """One image as the processor cut it up."""

    digest: str
    patches: torch.Tensor  # (patches, numbers in a patch of one frame); a picture's two frames are equal
    grid: torch.Tensor  # (3,) frames, rows and columns of patches


@dataclass(frozen=True)
class _Kept:
    """What stays the same about an image while its part of the tower is frozen."""

    entering: tuple[torch.Tensor, ...]  # (patches, width) before each merger; none where mergers are frozen, too
    features: torch.Tensor  # (tokens, hidden) after the merger
    deepstack: tuple[torch.Tensor, ...]  # Qwen3-VL's features for its first layers, each (tokens, hidden), if frozen
    grid: torch.Tensor  # (3,) as in Pixels

    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (*self.entering, self.features, *self.deepstack))


def digest(image: Any) -> str:
    """Return a digest of a PIL image's mode, size, palette and pixels."""
    described = f"{image.mode}{image.size}{image.getpalette() if image.mode == 'P' else ''}"
    return hashlib.blake2b(described.encode() + image.tobytes(), digest_size=16).hexdigest()


def names_of(pictures: Sequence[Any]) -> list[str]:
    """Return the digest of each PIL image; rows often hold the very same picture, which is digested once."""
    distinct = {id(picture): picture for picture in pictures}
    names = {key: picture.info.get(FILE_DIGEST) or digest(picture) for key, picture in distinct.items()}
    return [names[id(picture)] for picture in pictures]


class Pictures:
    """The pictures of a data set by row.

    Args:
        dataset: rows with a column ``image``.
    """

    def __init__(self, dataset: datasets.Dataset):
        import datasets

        self.dataset, self.feature = dataset.select_columns(["image"]), dataset.features["image"]
        plain = type(self.feature) is datasets.Image and dataset.format["type"] is None
        self.stored = self.dataset.cast_column("image", datasets.Image(decode=False)) if plain else None

    def __call__(self, rows: Sequence[int | None]) -> list[Any]:
        """Return a PIL image for each row, None a grey one; rows that hold the same file share one object."""
        known = [row for row in dict.fromkeys(rows) if row is not None]
        found: dict[int | None, Any] = {}
        if None in rows:
            found[None] = Image.new("RGB", self.dataset[0]["image"].size, (127, 127, 127))
        if self.stored is None:
            found |= {row: self.dataset[row]["image"] for row in known}
        elif known:
            files = [(file["path"], file["bytes"]) for file in self.stored[known]["image"]]
            opened = {file: self._open(*file) for file in dict.fromkeys(files)}
            found |= {row: opened[file] for row, file in zip(known, files)}
        return [found[row] for row in rows]

    def _open(self, path: str | None, content: bytes | None) -> Any:
        file = {"path": path, "bytes": content}
        if content is None and Path(path).is_file():
            content = Path(path).read_bytes()
        if content is None or self.feature.mode is not None or any(tag in content for tag in _MAY_TURN):
            return self.feature.decode_example(file)
        picture = Image.open(BytesIO(content))
        picture.info[FILE_DIGEST] = hashlib.blake2b(content, digest_size=16).hexdigest()
        return picture


class VisionFeatures:
    """Encodes images for one model and remembers what cannot change.

    Args:
        core: the model without its head, e.g. ``Qwen2VLModel``, with ``visual`` and ``get_image_features``.
        limit: bytes to keep at most; the images used longest ago go first.

    Attributes:
        at_once: patches that go through the tower together at most; 0: all of a call.
        trained: which part of the tower has weights that change, or an adapter: "nothing", "merger" or "tower".
        encoded: images sent through the tower so far.
        found: images so far that had been sent already, in an earlier call or for another prompt of the same.
    """

    def __init__(self, core: nn.Module, limit: int = 2**28):
        self.core, self.limit = core, limit
        # An adapter counts although it may be frozen: the KL term's reference is the model with its adapter off.
        names = [name for name, weight in core.visual.named_parameters() if weight.requires_grad or "lora_" in name]
        outside = [name for name in names if not name.startswith(_MERGERS)]
        self.trained = "tower" if outside else "merger" if names else "nothing"
        self.encoded = self.found = self.at_once = 0
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def knows(self, image_digest: str) -> bool:
        """Whether the image need not be preprocessed any more."""
        return image_digest in self._kept

    def grid(self, image_digest: str) -> torch.Tensor:
        """Return frames, rows and columns of patches, (3,), of a known image."""
        return self._kept[image_digest].grid

    def __call__(self, images: Sequence[Pixels]) -> dict[str, Any]:
        """Return the model's ``mm_encoder_outputs`` for images in the order in which the prompts show them."""
        distinct = {image.digest: image for image in images}
        features, deepstack = (self._anew if self.trained == "tower" else self._remembered)(list(distinct.values()))
        self.found += len(images) - len(distinct)
        place = {name: i for i, name in enumerate(distinct)}
        shown = [place[image.digest] for image in images]
        return {
            "image": SimpleNamespace(
                pooler_output=[features[i] for i in shown],
                deepstack_features=[[layer[i] for i in shown] for layer in deepstack],
            )
        }

    def _anew(self, images: list[Pixels]) -> tuple[Sequence, Sequence]:
        """Features of distinct images from the tower as it is now, and Qwen3-VL's of each of its first layers."""
        self.encoded += len(images)
        output = self._encode(images)
        return output.pooler_output, getattr(output, "deepstack_features", None) or ()

    def _remembered(self, images: list[Pixels]) -> tuple[Sequence, Sequence]:
        """The same, of images that need not go through the tower if they did before."""
        unknown = [image for image in images if image.digest not in self._kept]
        self.found += len(images) - len(unknown)
        kept = {image.digest: self._kept[image.digest] for image in images if image.digest in self._kept}
        kept |= self._keep(unknown) if unknown else {}
        for image in images:
            if image.digest in self._kept:
                self._kept.move_to_end(image.digest)
        rows = [kept[image.digest] for image in images]
        if self.trained == "merger":
            return self._merge(rows)
        return [row.features for row in rows], list(zip(*(row.deepstack for row in rows)))  # layers: Qwen3-VL's alone

    @torch.no_grad()
    def around_merger(self, images: Sequence[Pixels]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return for each image what enters the merger, (patches, width), and what leaves it, (tokens, hidden).

        The two are in the tower's own orders, which may differ. Nothing is kept.
        """
        pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
        for group in self._groups(list(images)):
            with _noted([self.core.visual.merger]) as entering:
                merged = self._encode(group).pooler_output
            pairs += zip(entering[0].split([len(image.patches) for image in group]), merged)
        return pairs

    def _encode(self, images: Sequence[Pixels]) -> Any:
        device = next(self.core.visual.parameters()).device
        patches = torch.cat([image.patches for image in images]).to(device)  # (all patches, numbers in a patch)
        grids = torch.stack([image.grid for image in images]).to(device)  # (images, 3)
        embed = self.core.visual.patch_embed
        fast = device.type == "cpu" and type(embed.proj) is nn.Conv3d and embed.proj.weight.dtype == torch.float32
        if not fast:
            patches = doubled(patches, embed.in_channels, embed.temporal_patch_size)
        with _as_product(embed) if fast else nullcontext():
            return self.core.get_image_features(patches, grids, return_dict=True)

    @torch.no_grad()
    def _keep(self, images: list[Pixels]) -> dict[str, _Kept]:
        self.encoded += len(images)
        new: dict[str, _Kept] = {}
        for group in self._groups(images):
            with _noted(_mergers(self.core.visual) if self.trained == "merger" else []) as entering:
                output = self._encode(group)
            parts = [hidden.split([len(image.patches) for image in group]) for hidden in entering]
            layers = getattr(output, "deepstack_features", None) or () if self.trained == "nothing" else ()
            for i, image in enumerate(group):
                before, deeper = (tuple(layer[i].clone() for layer in all_of) for all_of in (parts, layers))
                row = _Kept(before, output.pooler_output[i].clone(), deeper, image.grid)
                new[image.digest] = self._kept[image.digest] = row
                self._bytes += row.bytes()
        while self._bytes > self.limit and self._kept:
            self._bytes -= self._kept.popitem(last=False)[1].bytes()
        return new

    def _groups(self, images: list[Pixels]) -> list[list[Pixels]]:
        """Images that go through the tower together."""
        groups: list[list[Pixels]] = [[]]
        for image in images:
            if groups[-1] and 0 < self.at_once < sum(len(other.patches) for other in (*groups[-1], image)):
                groups.append([])
            groups[-1].append(image)
        return groups

    def _merge(self, rows: list[_Kept]) -> tuple[Sequence, Sequence]:
        """What the mergers make, as they are now, of what enters them."""
        visual, tokens = self.core.visual, [len(row.features) for row in rows]
        merged = [
            merger(torch.cat(hidden)).split(tokens)  # (all tokens, hidden), cut into images
            for merger, hidden in zip(_mergers(visual), zip(*(row.entering for row in rows)))
        ]
        return self._in_place(merged[0], rows), merged[1:]

    def _in_place(self, parts: Sequence[torch.Tensor], rows: list[_Kept]) -> Sequence[torch.Tensor]:
        visual = self.core.visual
        if not hasattr(visual, "window_size"):
            return parts
        from transformers.vision_utils import get_vision_window_index

        # Qwen2.5-VL sorts the merger's outputs by window; here each goes back to its place in the image.
        sizes = {name: getattr(visual, name) for name in ("spatial_merge_size", "window_size", "patch_size")}
        order = [torch.argsort(get_vision_window_index(row.grid[None], **sizes)[0]) for row in rows]
        return [part[places.to(part.device)] for part, places in zip(parts, order)]


def _mergers(visual: nn.Module) -> list[nn.Module]:
    """The merger behind the tower and, of Qwen3-VL, those inside it, each of which feeds one of the first layers."""
    return [visual.merger, *getattr(visual, "deepstack_merger_list", ())]


@contextmanager
def _noted(modules: Sequence[nn.Module]) -> Iterator[list[torch.Tensor]]:
    """Note what enters modules, in their order, when the model is called."""
    found: dict[int, torch.Tensor] = {}
    entered: list[torch.Tensor] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, given, k=k: found.__setitem__(k, given[0]))
        for k, module in enumerate(modules)
    ]
    try:
        yield entered
    finally:
        for hook in hooks:
            hook.remove()
        entered += [found[k] for k in sorted(found)]


def doubled(patches: torch.Tensor, channels: int, frames: int) -> torch.Tensor:
    """Patches with all frames, (patches, channels * frames * pixels), as the processor of transformers makes them."""
    return patches.unflatten(1, (channels, 1, -1)).expand(-1, -1, frames, -1).flatten(1)


@contextmanager
def _as_product(embed: nn.Module) -> Iterator[None]:
    """Let a convolution that sees each patch once, both frames of it equal, be the matrix product that it is.

    On a CPU that is four times faster.
    """
    embed.forward = lambda patches: F.linear(patches, embed.proj.weight.sum(2).flatten(1), embed.proj.bias)
    try:
        yield
    finally:
        del embed.forward


# The features of the last tower that answered, by the tower's digest.
_of_tower: dict[str, VisionFeatures] = {}


def forget_images() -> None:
    """Give up the image features that were kept for the next reader (256 MiB at most)."""
    _of_tower.clear()


def kept_features(core: nn.Module, processor: Any) -> VisionFeatures:
    """Return features of images seen before by this very tower, or none yet; nothing may change while they are used.

    Where the merger alone has an adapter, what enters the merger is kept: that is the same for all adapters of a base.
    Adapters on the rest of the tower make it another tower, whenever one is trained on, switched, scaled or turned off.

    Args:
        core: the model without its head, in evaluation mode.
        processor: the model's.
    """
    acting = acting_adapters(core.visual)
    merger = bool(acting) and all(state[0].startswith(_MERGERS) for state in acting)
    tower = _tower_digest(core, processor, acting, merger) if _tells_all(core.visual, merger) else None
    found = _of_tower.get(tower) or VisionFeatures(core)
    found.trained = "merger" if merger else "nothing"  # nothing changes while answers are read
    found.at_once = CPU_PATCHES if core.device.type == "cpu" else 0
    if tower is not None:
        found.core = weakref.proxy(core)  # kept features must not keep a model
        forget_images()
        _of_tower[tower] = found
    return found


def _tells_all(visual: nn.Module, merger: bool) -> bool:
    """Whether weights and acting adapters decide what a tower does: hooks may do anything, LoRA's variants much."""
    variants = not merger and any(getattr(module, "lora_variant", None) for module in visual.modules())
    return not variants and not any(m._forward_hooks or m._forward_pre_hooks for m in visual.modules())


def _tower_digest(core: nn.Module, processor: Any, acting: list[tuple], merger: bool) -> str:
    """All that decides what a tower makes of an image; if ``merger``, of what enters the merger."""
    settings = (core.config.vision_config.to_json_string(), processor.image_processor.to_json_string())
    about = f"{settings} {core.device} {core.dtype} {merger or acting}"
    state = core.visual.state_dict().items()
    return about + exact_digest((name, t) for name, t in state if not (merger and name.startswith(_MERGERS)))
