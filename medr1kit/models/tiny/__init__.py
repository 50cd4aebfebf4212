"""The built-in model: a stock Qwen2-VL of two million parameters, and the script that made it.

``checkpoint/`` holds weights, tokenizer and processor settings; ``python -m medr1kit.models.tiny.build`` makes them
anew.
"""
