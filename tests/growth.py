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
    """Whether four times the text takes at most eight times as long: a quadratic reading takes sixteen."""
    n = length // len(piece)
    return cpu_seconds(read, piece * n, *given) < 8 * max(cpu_seconds(read, piece * (n // 4), *given), 0.005)
