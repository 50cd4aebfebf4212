"""What is timed, a module a benchmark, and what they share: clocks, even completions, the memory of a step."""
