"""Features once an image: the model's own, with bounded memory, and only as long as they cannot change."""

import pytest
import torch
from PIL import Image
from shared_prefix_cases import adapted, base_of, conversations, core_of, in_double, padded, relative

from medr1kit.models.adapters import lora
from medr1kit.models.shared_prefix.prompts import read_prompts
from medr1kit.models.shared_prefix.vision import VisionFeatures, digest, doubled

TOWER = "the tower's adapter"


@pytest.fixture
def images(micro, train_phantoms):
    """A square, a wide and another square picture as the micro model's processor cuts them up."""
    micro[1].image_processor.size = {"shortest_edge": 12_000, "longest_edge": 12_000}  # several windows in Qwen2.5
    asked = conversations(list(train_phantoms.select(range(3))), sizes=(None, (224, 112), None))
    return read_prompts(micro[1], core_of(micro[0]), asked).images


def own(model, images):
    """What the model makes of all images in one pass, in float64: its convolution errs more than a product does."""
    return encoded(in_double(model), images)


def encoded(double, images):
    patches = doubled(torch.cat([image.patches for image in images]), channels=3, frames=2).double()
    grids = torch.stack([image.grid for image in images])
    output = core_of(double).get_image_features(patches, grids, return_dict=True)
    return list(output.pooler_output), list(getattr(output, "deepstack_features", None) or [])


def near(found, wanted):
    """Equal up to float32 sums in another order, which err in proportion to the largest feature."""
    return found.shape == wanted.shape and (found - wanted).abs().max() < 1e-5 * wanted.abs().max()


def same(found, expected):
    found = found["image"]
    features, layers = expected
    assert all(near(*pair) for pair in zip(found.pooler_output, features, strict=True))
    ours = getattr(found, "deepstack_features", None) or []
    joined = [torch.cat(list(layer)) if isinstance(layer, list | tuple) else layer for layer in ours]
    wanted = [torch.cat(list(layer)) if isinstance(layer, list | tuple) else layer for layer in layers]
    assert all(torch.allclose(a.double(), b, atol=1e-5) for a, b in zip(joined, wanted, strict=True))
    return True


@pytest.mark.parametrize("trained", ["nothing", "merger", "tower", TOWER])
def test_features_are_the_model_s_own(micro, images, trained):
    model = micro[0].requires_grad_(trained == "tower")
    if trained in ("merger", TOWER):
        model = adapted(model, merger=trained == "merger", tower=trained == TOWER)
    vision, anew = VisionFeatures(core_of(model)), trained in ("tower", TOWER)
    assert vision.trained == ("tower" if anew else trained)
    again = (images[2], images[0], images[2], images[1])
    expected = own(model, images), own(model, again)
    assert same(vision(images), expected[0]) and same(vision(again), expected[1])
    assert (vision.encoded, vision.found) == ((6, 1) if anew else (3, 4))
    assert vision.knows(images[0].digest) == (not anew)
    assert bool(core_of(model).config.model_type == "qwen3_vl") == bool(expected[0][1])


def test_a_trained_merger_gets_its_gradient_and_its_new_weights(micro, images):
    model = adapted(micro[0], merger=True)
    vision = VisionFeatures(core_of(model))
    seen = vision(images)["image"]

    def factors(model):
        visual = core_of(model).visual
        mergers = [visual.merger, *getattr(visual, "deepstack_merger_list", ())]
        assert len(seen.deepstack_features) == len(mergers) - 1
        return [w for merger in mergers for name, w in merger.named_parameters() if "lora_" in name]

    def gradients(model, features, deepstack):
        layers = [torch.cat(list(layer)) for layer in (features, *deepstack)]
        return torch.autograd.grad(sum((f * f.detach().cos()).sum() for f in layers), factors(model))

    for _ in range(2):
        double = in_double(model)
        seen, (features, *deepstack) = vision(images)["image"], encoded(double, images)
        deepstack = [[layer] if isinstance(layer, torch.Tensor) else layer for layer in deepstack[0]]
        ours = gradients(model, seen.pooler_output, seen.deepstack_features)
        theirs = gradients(double, features, deepstack)
        assert all(gradient.any() for gradient in theirs[1::2])
        assert max(relative(a.double(), b) for a, b in zip(ours, theirs)) < 1e-5
        with torch.no_grad():
            for first in factors(model)[::4]:  # of each merger
                first.add_(0.1)
        assert same(vision(images), own(model, images))
    with model.disable_adapter():  # the reference of the KL term
        assert same(vision(images), own(model, images))
    assert vision.encoded == 3


@pytest.mark.parametrize("merger", [False, True])
def test_an_image_in_two_prompts_is_encoded_once_and_its_gradient_is_the_sum(micro, images, merger):
    model = adapted(micro[0], merger=merger, tower=True)
    weights = [w for name, w in core_of(model).visual.named_parameters() if "lora_" in name]

    def gradients(output, factors):
        """Of features that weigh differently in each prompt; Qwen3-VL's from inside the tower among them."""
        layers = [output.pooler_output, *(getattr(output, "deepstack_features", None) or ())]
        loss = sum(factor * (f * f.cos()).sum() for layer in layers for factor, f in zip(factors, layer, strict=True))
        return torch.autograd.grad(loss, weights)

    def alone(image):
        return core_of(model).get_image_features(doubled(image.patches, 3, 2), image.grid[None], return_dict=True)

    first, other, _ = images
    seen, vision = [], VisionFeatures(core_of(model))
    hook = core_of(model).visual.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["grid_thw"].tolist()), with_kwargs=True
    )
    ours = gradients(vision([first, other, first])["image"], (1.0, 2.0, -3.0))
    hook.remove()
    assert seen == [[first.grid.tolist(), other.grid.tolist()]] and (vision.encoded, vision.found) == (2, 1)
    each = [gradients(alone(image), [factor]) for image, factor in ((first, 1.0), (other, 2.0), (first, -3.0))]
    for found, *parts in zip(ours, *each):
        assert torch.allclose(found, sum(parts), rtol=1e-4, atol=1e-5 * max(part.abs().max() for part in parts))


def test_nothing_is_reused_after_a_trained_tower_has_moved(micro, images):
    model = adapted(micro[0], tower=True)
    vision = VisionFeatures(core_of(model))
    weights = [w for name, w in core_of(model).visual.named_parameters() if "lora_B" in name]
    before = vision(images)
    optimizer = torch.optim.SGD(weights, lr=0.1)
    sum((f * f.cos()).sum() for f in before["image"].pooler_output).backward()
    optimizer.step()
    with torch.no_grad():
        assert same(vision(images), own(model, images))
        assert not torch.allclose(vision(images)["image"].pooler_output[0], before["image"].pooler_output[0], atol=1e-3)
        adapter_on = vision(images)
        with model.disable_adapter():  # the reference of the KL term
            assert same(vision(images), own(model, images))
            assert not torch.allclose(vision(images)["image"].pooler_output[0], adapter_on["image"].pooler_output[0])
        assert same(vision(images), own(model, images))


@pytest.mark.parametrize("part", ["merger", "tower"])
def test_a_frozen_adapter_is_not_taken_for_a_frozen_tower(micro, part):
    """It is switched off for the reference, so features with it must not be kept."""
    from peft import get_peft_model

    model = get_peft_model(micro[0], lora(**{part: True})).requires_grad_(False)
    assert VisionFeatures(core_of(model)).trained == part


def test_memory_is_bounded_and_what_left_is_encoded_anew(micro, images):
    model = base_of(micro[0]).requires_grad_(False)
    unbounded = VisionFeatures(core_of(model))
    unbounded(images)
    sizes = [unbounded._kept[image.digest].bytes() for image in images]
    vision = VisionFeatures(core_of(model), limit=sizes[0] + sizes[2])
    assert same(vision(images), own(model, images))
    assert vision._bytes == sum(row.bytes() for row in vision._kept.values()) <= vision.limit
    assert not vision.knows(images[0].digest) and vision.knows(images[2].digest)
    vision(images[2:])  # just used: it stays when the first comes back
    assert same(vision(images[:1]), own(model, images[:1])) and vision.encoded == 4
    assert vision.knows(images[2].digest)
    nothing = VisionFeatures(core_of(model), limit=0)
    for _ in range(2):
        assert same(nothing(images), own(model, images))
    assert nothing.encoded == 6 and not nothing._kept and nothing._bytes == 0


def test_digests_tell_pictures_apart():
    picture = Image.effect_noise((8, 6), 40)
    assert digest(picture) == digest(picture.copy())
    turned = Image.frombytes("L", (6, 8), picture.tobytes())
    coloured = picture.convert("P")
    recoloured = coloured.copy()
    recoloured.putpalette(bytes(range(255, -1, -1)) * 3)
    others = [turned, picture.point(lambda x: x + 1), coloured, recoloured]
    assert len({digest(image) for image in (picture, *others)}) == 5


def test_pixels_are_those_of_the_processor(micro, train_phantoms, images):
    wide = conversations(list(train_phantoms.select(range(3))), sizes=(None, (224, 112), None))
    inputs = padded(micro[1], [wide[0], wide[3], wide[4]])
    assert torch.equal(doubled(torch.cat([image.patches for image in images]), 3, 2), inputs["pixel_values"])
    assert torch.equal(torch.stack([image.grid for image in images]), inputs["image_grid_thw"])


@pytest.mark.parametrize("merger", [False, True], ids=["nothing trained", "merger"])
def test_features_do_not_depend_on_what_goes_through_the_tower_together(micro, images, merger):
    model = adapted(micro[0], merger=True) if merger else micro[0].requires_grad_(False)
    vision = VisionFeatures(core_of(model))
    vision.at_once = len(images[0].patches)
    passes, encode = [], vision._encode
    vision._encode = lambda group: passes.append(len(group)) or encode(group)
    assert same(vision(images), own(model, images)) and passes == [1, 1, 1]
