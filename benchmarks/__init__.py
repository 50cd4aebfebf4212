"""Benchmarks: what the fast paths save on this machine, and whether they change a result.

``python -m benchmarks grpo|predict|load|audit``, from the checkout's folder, measures and prints; ``--json`` writes the
same numbers to a file. Every case says what it compares with, how often it was measured and whether both sides gave the
same result in this very run.
"""
