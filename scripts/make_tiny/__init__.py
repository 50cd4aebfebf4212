"""What made the built-in model: ``python -m scripts.make_tiny.build``, from the checkout's folder."""
