"""The untrained tiny model: stock Qwen2-VL classes, small numbers, and a fair start for matching and copying."""

from __future__ import annotations

import torch
from transformers import PreTrainedTokenizerFast, Qwen2VLConfig, Qwen2VLForConditionalGeneration


def make_model(tokenizer: PreTrainedTokenizerFast) -> Qwen2VLForConditionalGeneration:
    """Return an untrained model: stock classes, no weight shared between input embedding and head."""
    names = ("image_pad", "video_pad", "vision_start", "vision_end")
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in names}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 320,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 6, 6]},
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {"depth": 3, "embed_dim": 128, "hidden_size": 128, "num_heads": 4, "mlp_ratio": 3, "patch_size": 14}
    config = Qwen2VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["image_pad"],
        video_token_id=ids["video_pad"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
        tie_word_embeddings=False,
    )
    model = Qwen2VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def initialise(model: Qwen2VLForConditionalGeneration) -> None:
    """Set weights so that content matching and copying start from a fair guess: W_q = W_k, plainer embeddings."""
    language = model.model.language_model
    torch.nn.init.normal_(language.embed_tokens.weight, std=0.07)
    for layer in language.layers:
        attention = layer.self_attn
        keys = attention.k_proj.weight  # (kv heads * head dim, hidden)
        repeat = attention.q_proj.weight.shape[0] // keys.shape[0]
        heads = torch.nn.init.normal_(torch.empty_like(keys), std=keys.shape[1] ** -0.5).chunk(2)
        with torch.no_grad():
            keys.copy_(torch.cat(heads))
            attention.q_proj.weight.copy_(torch.cat([head for head in heads for _ in range(repeat)]))
    _look_back_one(language.layers[0].self_attn)


def _look_back_one(attention: torch.nn.Module, strength: float = 6.0) -> None:
    """Let the first two heads attend to the previous token, through the query and key biases and RoPE alone."""
    width = attention.head_dim
    angle = 1e4 ** (-torch.arange(0, width, 2) / width)  # (head dim / 2,), radians per position
    key = torch.cat([torch.full_like(angle, strength), torch.zeros_like(angle)])
    # rotate_half layout: pair i is (x_i, x_{i + d/2}); turning the query back by one position makes offset -1 the peak
    query = torch.cat([strength * torch.cos(angle), -strength * torch.sin(angle)])
    with torch.no_grad():
        attention.k_proj.bias[:width] = key
        attention.q_proj.bias[: 2 * width] = query.repeat(2)
        attention.q_proj.weight[: 2 * width] *= 0.1
        attention.k_proj.weight[:width] *= 0.1
