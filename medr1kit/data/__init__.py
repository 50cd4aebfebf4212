"""Questions: where they come from."""
