"""Asked by others' means: stock transformers with torchvision, in a process that has neither medr1kit nor peft.

    PYTHONPATH=.real python stock.py < ASKED > ANSWERED

Asked are ``{"folders": [FOLDER], "questions": [{"image": FILE, "text": …}], "max_new_tokens": 8}``; answered, of each
folder and question, the chat template's text, the prompt's ids and the greedy answer. A checkpoint's own generation
settings are put aside.
"""

import json
import sys


def import_torchvision():
    """Import torchvision, also a build for CUDA beside a torch for the CPU, which lacks two operators' names."""
    import torch

    try:
        import torchvision
    except RuntimeError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    return torchvision


def answers(folder, questions, max_new_tokens):
    """Ask ``folder`` each question; yields template text, prompt ids, answer ids and the answer."""
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    torch.set_num_threads(1)
    processor = AutoProcessor.from_pretrained(folder)
    assert processor.video_processor is not None, "not the stock processor"
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    plain = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None, "repetition_penalty": 1.0}
    for question in questions:
        content = [{"type": "image"}, {"type": "text", "text": question["text"]}]
        prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        inputs = processor(text=[prompt], images=[Image.open(question["image"])], return_tensors="pt")
        with torch.inference_mode():
            said = model.generate(**inputs, **plain, max_new_tokens=max_new_tokens)[0, inputs["input_ids"].shape[1] :]
        text = processor.tokenizer.decode(said, skip_special_tokens=True)
        yield {"prompt": prompt, "ids": inputs["input_ids"][0].tolist(), "text": text}


if __name__ == "__main__":
    sys.modules["medr1kit"] = sys.modules["peft"] = None  # nobody can import them any more
    import_torchvision()
    asked = json.load(sys.stdin)
    given = [{"folder": folder, **asked} for folder in asked.pop("folders")]
    json.dump([list(answers(**one)) for one in given], sys.stdout)
