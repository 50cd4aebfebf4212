"""Benchmarks: what the fast paths save on this machine, and whether they change a result.

``medr1kit benchmark grpo|predict|load|audit`` measures and prints; ``--json`` writes the same numbers to a file. Every
case says what it compares with, how often it was measured and whether both sides gave the same result in this very run.
"""
