"""The built-in model: a stock Qwen2-VL of two million parameters.

``checkpoint/`` holds weights, tokenizer and processor settings; ``python -m scripts.make_tiny.build`` in a checkout
makes them anew.
"""
