"""The tables, and every number computed from them; no torch."""
