"""Blocks: option sets in which the wording says nothing about the answer.

Take k questions with k different right answers and offer all k answers to each of them::

    image 1 (gold: cyst)     A)stone, B)cyst, C)mass
    image 2 (gold: stone)    A)stone, B)mass, C)cyst
    image 3 (gold: mass)     A)cyst, B)stone, C)mass

Such a block is *exchangeable*: whoever sees the options but not the image must give the same text three times and is
right once. So any rule on option texts, learned wherever, scores exactly chance, 1/k; each text is gold in exactly 1/k
of the rows in which it appears; and with the gold at each letter once, no letter and no length helps either. Drawing
distractors at random, even in proportion to how often each text is gold, has these properties only on average.

How many blocks there are is easily said: a text can be in a block once, so B blocks of k need
sum over texts of min(count, B) >= k B. A text more frequent than the B blocks cannot be used up; its other questions
are left over.
"""

from __future__ import annotations

import random
from bisect import bisect
from collections import defaultdict
from collections.abc import Collection, Hashable, Mapping, Sequence
from itertools import chain

_TRIES = 20  # how often a block that met a clash is begun again


def exchangeable_blocks(
    golds: Sequence[Hashable],
    size: int,
    rng: random.Random,
    *,
    stems: Sequence[Hashable] | None = None,
    clashes: Mapping[Hashable, Collection[Hashable]] | None = None,
    barred: Mapping[int, Collection[Hashable]] | None = None,
) -> tuple[list[list[int]], list[int]]:
    """Put questions into blocks of ``size`` different golds, as many blocks as there can be.

    Args:
        golds: the gold text of each question.
        size: questions a block, at least 2.
        rng: the source of all chance.
        stems: the wording of each question. A block keeps to one wording where it can, so that not even wording and
            options together tell anything.
        clashes: for a text, the texts that must not stand beside it, symmetrical. A text never meets itself.
        barred: for a question (its number), further texts that must not be offered to it.

    Returns:
        The blocks, each a list of question numbers, and the numbers that are left over, in ascending order.

    >>> blocks, rest = exchangeable_blocks(["no", "no", "yes", "no"], 2, random.Random(0))
    >>> len(blocks), 2 in blocks[0], len(rest)
    (1, True, 2)
    """
    maker = _Maker(golds, stems or [None] * len(golds), clashes or {}, barred or {}, rng)
    blocks: list[list[int]] = []
    failures = 0
    while failures < _TRIES and (left := most_blocks(maker.counts.values(), size)):
        while left and (block := maker.block(size, left)):
            blocks.append(block)
            left, failures = left - 1, 0
        failures += bool(left)  # clashes spoilt this block; count again what can still be made
    return blocks, sorted(maker.rest())


def lay_out(block: Sequence[int], rng: random.Random) -> list[list[int]]:
    """Return, for each question of a block, the members of the block in the order in which their golds are offered.

    The gold comes at each letter once; the others follow in random order.

    >>> orders = lay_out([7, 8, 9], random.Random(0))
    >>> sorted(order.index(number) for number, order in zip([7, 8, 9], orders))
    [0, 1, 2]
    """
    places = rng.sample(range(len(block)), len(block))
    orders = []
    for number, place in zip(block, places):
        others = rng.sample([other for other in block if other != number], len(block) - 1)
        orders.append([*others[:place], number, *others[place:]])
    return orders


def most_blocks(counts: Collection[int], size: int) -> int:
    """Return how many blocks of ``size`` different texts there are, clashes apart.

    Args:
        counts: how many questions have each gold text.
        size: questions a block.

    >>> most_blocks([100, 10, 9, 8], 4), most_blocks([100, 10, 9, 8], 2)
    (8, 27)
    """
    possible = range(1, sum(counts) // size + 1)
    return bisect(possible, False, key=lambda blocks: sum(min(count, blocks) for count in counts) < size * blocks)


class _Urn:
    """Things drawn in proportion to their weights; a draw and a change take the logarithm of how many there are."""

    def __init__(self, weights: Mapping[Hashable, int]):
        self.things = list(weights)
        self.leaves = 1 << max(0, len(weights) - 1).bit_length()
        self.leaf = {thing: self.leaves + i for i, thing in enumerate(self.things)}
        # The sum under each node of a binary tree: the root is 1, the children of i are 2i and 2i + 1.
        self.sums = [0] * self.leaves + [*weights.values()] + [0] * (self.leaves - len(weights))
        for node in range(self.leaves - 1, 0, -1):
            self.sums[node] = self.sums[2 * node] + self.sums[2 * node + 1]

    def __bool__(self) -> bool:
        return self.sums[1] > 0

    def draw(self, rng: random.Random) -> Hashable:
        place, node = rng.randrange(self.sums[1]), 1
        while node < self.leaves:
            node *= 2
            if place >= self.sums[node]:
                place -= self.sums[node]
                node += 1
        return self.things[node - self.leaves]

    def add(self, thing: Hashable, change: int) -> None:
        node = self.leaf[thing]
        while node:
            self.sums[node] += change
            node //= 2

    def empty(self, thing: Hashable) -> int:
        """Set the weight of a thing to 0 and return what it was."""
        weight = self.sums[self.leaf[thing]]
        self.add(thing, -weight)
        return weight


class _Urns:
    """Two urns of texts: those that other blocks can take as well, and those that must be in every one."""

    def __init__(self, counts: Mapping[Hashable, int]):
        self.spare, self.pressed = _Urn(counts), _Urn(dict.fromkeys(counts, 0))

    def of(self, pressed: bool) -> _Urn:
        return self.pressed if pressed else self.spare

    def press(self, gold: Hashable, pressed: bool) -> None:
        self.of(pressed).add(gold, self.of(not pressed).empty(gold))


class _Maker:
    """The questions that are still to be placed, by gold and stem."""

    def __init__(self, golds, stems, clashes, barred, rng):
        self.golds, self.stems, self.clashes, self.barred, self.rng = golds, stems, clashes, barred, rng
        self.waiting: dict[Hashable, dict[Hashable, list[int]]] = {}
        for number in rng.sample(range(len(golds)), len(golds)):
            self.waiting.setdefault(golds[number], {}).setdefault(stems[number], []).append(number)
        self.counts = {gold: sum(map(len, by_stem.values())) for gold, by_stem in self.waiting.items()}
        self._fill_urns()
        # Of each text its questions and those of the texts that it clashes with.
        self.pressure = {g: n + sum(self.counts.get(t, 0) for t in self._beside(g)) for g, n in self.counts.items()}
        self.at: dict[int, set[Hashable]] = defaultdict(set)  # the texts of a pressure
        for gold, pressure in self.pressure.items():
            self.at[pressure].add(gold)
        self.pressed: set[Hashable] = set()  # texts that must be in every block
        self.changed: set[Hashable] = set()  # texts whose pressure has changed since that was looked at
        self.left: int | None = None  # blocks left when it was

    def _fill_urns(self) -> None:
        of_stem: dict[Hashable, dict[Hashable, int]] = {}
        for gold, by_stem in self.waiting.items():
            for stem, numbers in by_stem.items():
                of_stem.setdefault(stem, {})[gold] = len(numbers)
        self.texts = _Urns(self.counts)
        self.texts_of = {stem: _Urns(counts) for stem, counts in of_stem.items()}
        self.stems_of = {gold: _Urn({s: len(n) for s, n in by_stem.items()}) for gold, by_stem in self.waiting.items()}

    def rest(self) -> list[int]:
        return [number for by_stem in self.waiting.values() for numbers in by_stem.values() for number in numbers]

    def block(self, size: int, left: int) -> list[int]:
        """Take one block out; ``left`` is how many can be made, this one included. Empty if clashes prevent it.

        A text that has, with those it clashes with, as many questions as there are blocks left must be in every one of
        them. The other places go to texts drawn in proportion to their questions, first among those that are asked with
        the same stem.
        """
        self._press(left)
        first = (self.texts.pressed or self.texts.spare).draw(self.rng)
        stem = self.stems_of[first].draw(self.rng)
        block, asked, drawn = [self.waiting[first][stem][-1]], {first}, []
        alike = self.texts_of[stem]
        for urn in (alike.pressed, self.texts.pressed, alike.spare, self.texts.spare):
            while urn and len(block) < size:
                gold = urn.draw(self.rng)
                drawn.append((urn, gold, urn.empty(gold)))
                number = None if gold in asked else self._fitting(gold, stem, block)
                block += [] if number is None else [number]
                asked.add(gold)
        for urn, gold, weight in drawn:
            urn.add(gold, weight)
        if len(block) < size:
            return []
        for member in block:
            self._remove(member)
        return block

    def _press(self, left: int) -> None:
        """Sort texts by whether they must be in every block; but for the changed, only those at the edge can move."""
        one_less = self.left is not None and left == self.left - 1
        for gold in self.changed | self.at[left] if one_less else list(self.counts):
            pressed = self.pressure[gold] >= left
            if gold in self.counts and pressed != (gold in self.pressed):
                (self.pressed.add if pressed else self.pressed.discard)(gold)
                for urns in (self.texts, *(self.texts_of[stem] for stem in self.waiting[gold])):
                    urns.press(gold, pressed)
        self.left = left
        self.changed.clear()

    def _beside(self, gold: Hashable) -> Collection[Hashable]:
        return self.clashes.get(gold, ())

    def _fitting(self, gold: Hashable, stem: Hashable, block: list[int]) -> int | None:
        """A question with this gold, best with this stem, that goes with the block."""
        texts = [self.golds[member] for member in block]
        forbidden = self._beside(gold)
        if any(text in forbidden for text in texts) or any(gold in self.barred.get(member, ()) for member in block):
            return None
        by_stem = self.waiting[gold]
        for numbers in chain([by_stem.get(stem, ())], reversed(by_stem.values())):
            for number in reversed(numbers):
                if not any(text in self.barred.get(number, ()) for text in texts):
                    return number
        return None

    def _remove(self, number: int) -> None:
        gold, stem = self.golds[number], self.stems[number]
        numbers = self.waiting[gold][stem]
        numbers.pop() if numbers[-1] == number else numbers.remove(number)
        for urns in (self.texts, self.texts_of[stem]):
            urns.of(gold in self.pressed).add(gold, -1)
        self.stems_of[gold].add(stem, -1)
        if not numbers:
            del self.waiting[gold][stem]
        self.counts[gold] -= 1
        for text in (gold, *self._beside(gold)):
            if text in self.pressure:
                self.at[self.pressure[text]].discard(text)
                self.pressure[text] -= 1
                self.at[self.pressure[text]].add(text)
                self.changed.add(text)
        if not self.counts[gold]:
            del self.counts[gold], self.waiting[gold]
