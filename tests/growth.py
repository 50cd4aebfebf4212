"""How reading grows with what is read, whatever machine it is and whoever else works on it."""

import time


def cpu_seconds(read, *given):
    """The least of two goes, in CPU seconds."""
    goes = []
    for _ in range(2):
        began = time.process_time()
        read(*given)
        goes.append(time.process_time() - began)
    return min(goes)


def grows_as_its_length(read, piece, length, *given):
    """Whether a text of this length, made of pieces, takes as much longer as it is longer than a quarter of it."""
    n = length // len(piece)
    return grows_as_it_should(read, piece * (n // 4), piece * n, *given)


def grows_as_it_should(read, quarter, whole, *given):
    """Whether four times as much takes at most eight times as long: what is quadratic takes sixteen."""
    return cpu_seconds(read, whole, *given) < 8 * max(cpu_seconds(read, quarter, *given), 0.005)
