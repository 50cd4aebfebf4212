"""``python -m benchmarks gpu``: one pass over what a GPU does otherwise than a CPU, in a few minutes, in one table.

Nothing is installed or downloaded: a model of Qwen2-VL-2B's shape with random weights is made on the device, and
whatever torch, transformers and TRL are there are used. What is missing is a row of the table.
"""
