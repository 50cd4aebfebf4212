"""Figures: each draws one table into one axes.

``plot_x(frame, ax=None)`` returns the axes it drew into and touches nothing outside them: no global style, no saving,
no ``show``. Sizes and panels belong to the reader::

    figure, axes = plt.subplots(1, 2, layout="constrained")
    plot_rewards(run.metrics, ax=axes[0])
    plot_lengths(run.metrics, ax=axes[1])

Without ``ax`` a new figure is made. Every number in a figure stands in the frame it was drawn from. The colours keep
apart for colour-blind readers, and nothing is said by colour alone: values are printed, doubt is hatched, the diagonal
framed, curves differ in their dashes and points in their shape; so figures survive a greyscale printer.

For print, make the figure at its final size within ``PAPER`` and save it as vectors::

    with plt.rc_context(PAPER):
        figure, ax = plt.subplots(figsize=(3.3, 3.0), layout="constrained")  # one column of a paper, in inches
        plot_transfer(table, ax=ax)
        figure.savefig("transfer.pdf")

Each is reached as ``medr1kit.plot_x``; modules are imported by name, so that one figure does not load the others.
"""
