"""A model: loaded, asked, probed."""
