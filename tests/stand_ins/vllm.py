"""Stands in for vLLM: the signatures of its documentation that medr1kit uses, answered by transformers' ``generate``.

It loads the folder that it is given, as vLLM does, so that what is tested is what was written there.
"""

from dataclasses import dataclass
from types import SimpleNamespace

import torch
from transformers import GenerationConfig

from medr1kit.models.load import load_model

__version__ = "0.0.stand-in"
made = []  # every LLM


@dataclass
class SamplingParams:
    temperature: float = 1.0
    repetition_penalty: float = 1.0
    max_tokens: int = 16
    stop_token_ids: list | None = None
    logit_bias: dict | None = None


class LLM:
    def __init__(self, model, *, dtype="auto", limit_mm_per_prompt=None, generation_config="auto", seed=0):
        assert generation_config == "vllm" and limit_mm_per_prompt["image"] == 1
        self.model, self.processor = load_model(model, dtype=dtype, device="cpu")
        self.asked, self.settings, self.spoil = [], [], False
        made.append(self)

    def generate(self, prompts, sampling_params=None, *, use_tqdm=True):
        self.asked.append(prompts)
        self.settings.append(sampling_params)
        assert sampling_params.temperature == 0 and sampling_params.repetition_penalty == 1
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=sampling_params.max_tokens,
            eos_token_id=sampling_params.stop_token_ids,
            pad_token_id=self.processor.tokenizer.pad_token_id,
            suppress_tokens=[token for token, bias in sampling_params.logit_bias.items() if bias <= -100],
        )
        return [self._request(prompt, settings) for prompt in prompts]

    def _request(self, prompt, settings):
        shown = list(prompt.get("multi_modal_data", {}).values()) or None
        inputs = self.processor(text=[prompt["prompt"]], images=shown, return_tensors="pt")
        with torch.inference_mode():
            output = self.model.generate(**inputs, generation_config=settings)
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=output[0, inputs["input_ids"].shape[1] :].tolist())])
