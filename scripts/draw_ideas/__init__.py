"""What draws the pictures of ideas, ``docs/pictures/ideas/*.svg``: ``python -m scripts.draw_ideas``, from the checkout's
folder. Their tokens, pictures, pay and numbers are computed, and a test holds the committed files against a new drawing.
"""
