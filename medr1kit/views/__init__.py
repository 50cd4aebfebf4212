"""What a reader looks at: figures, panels, pages."""
