"""The built-in model: a stock Qwen2-VL of two million parameters, and the script that made it.

``checkpoint/`` holds weights, tokenizer and processor settings; ``python -m medr1kit.tiny.build`` makes them anew.
"""
