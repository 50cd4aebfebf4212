"""What draws the pictures of ideas in ``docs/pictures/ideas``: ``python -m scripts.draw_ideas``.

Their tokens, pictures, pay and numbers are computed, and a test holds the committed files against a new drawing.
"""
