"""A model: changed, by SFT or GRPO."""
