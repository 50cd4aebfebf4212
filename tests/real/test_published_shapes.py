"""The six published sizes, from a config.json as the Hub has it: their weights are counted, LoRA finds their maps."""

import copy
import json
import re

import pytest
from hub_layout import CONFIG

import medr1kit as mk
from medr1kit.models.outline import outline

TEXT = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
TOWER = {"depth": 32, "num_heads": 16}
TWO, THREE = TOWER | {"embed_dim": 1280}, TOWER | {"hidden_size": 1280, "intermediate_size": 3420}
SEES = {"num_heads": 16, "hidden_size": 1024, "intermediate_size": 4096, "depth": 24}
SEES |= {"deepstack_visual_indexes": [5, 11, 17]}

# Family; language model; vision tower; billions of weights. From memory of the Hub; the sums are the published ones.
PUBLISHED = {
    "Qwen2-VL-2B": ("Qwen2-VL", (1536, 8960, 28, 12, 2), TWO | {"hidden_size": 1536}, 2.2090),
    "Qwen2-VL-7B": ("Qwen2-VL", (3584, 18944, 28, 28, 4), TWO | {"hidden_size": 3584}, 8.2914),
    "Qwen2.5-VL-3B": ("Qwen2.5-VL", (2048, 11008, 36, 16, 2), THREE | {"out_hidden_size": 2048}, 3.7546),
    "Qwen2.5-VL-7B": ("Qwen2.5-VL", (3584, 18944, 28, 28, 4), THREE | {"out_hidden_size": 3584}, 8.2922),
    "Qwen3-VL-2B": ("Qwen3-VL", (2048, 6144, 28, 16, 8), SEES | {"out_hidden_size": 2048}, 2.1275),
    "Qwen3-VL-4B": ("Qwen3-VL", (2560, 9728, 36, 32, 8), SEES | {"out_hidden_size": 2560}, 4.4378),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_size_has_its_weights_and_its_maps(tmp_path, name):
    family, sizes, tower, billions = PUBLISHED[name]
    config = copy.deepcopy(CONFIG[family])
    text = config.get("text_config", config)
    text.update(zip(TEXT, sizes))
    text.update({"head_dim": 128} if family == "Qwen3-VL" else {})
    config["tie_word_embeddings"] = not name.endswith("7B")
    text["vocab_size"] = 152064 if name.endswith("7B") else 151936
    config["vision_config"].update(tower)
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    model = outline(tmp_path)
    assert round(model.num_parameters() / 1e9, 4) == billions
    names = [part for part, _ in model.named_modules()]
    found = {merger: [n for n in names if re.fullmatch(mk.lora(merger=merger).target_modules, n)] for merger in (0, 1)}
    mergers = 4 if family == "Qwen3-VL" else 1  # three of them deepstack
    assert len(found[0]) == 7 * sizes[2] and len(found[1]) == len(found[0]) + 2 * mergers
    assert all(".language_model.layers." in part for part in found[0])
