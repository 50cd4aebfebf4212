"""A picture of one step of GRPO: ask, sample, pay, compare within the group, step."""

from __future__ import annotations

import statistics

import medr1kit as mk
from scripts.draw_ideas import example
from scripts.draw_ideas.sheet import Sheet


def pay_of(group: tuple[str, ...]) -> list[tuple[float, float]]:
    """What the toolkit's own two rewards pay for completions of the question: for the letter, for the form."""
    row = example.question()
    columns = {"solution": [row["solution"]] * len(group), "options": [row["options"]] * len(group)}
    rewards = (mk.accuracy_reward(example.FORMAT), mk.format_reward(example.FORMAT))
    return [*zip(*(reward(list(group), **columns) for reward in rewards))]


def advantages_of(pay: list[float]) -> list[float]:
    """Each pay less the group's mean, in units of the group's spread; source: DeepSeekMath, as TRL computes it."""
    mean, spread = statistics.mean(pay), statistics.stdev(pay)
    return [(one - mean) / (spread + 1e-4) for one in pay]


def remark(text: str) -> str:
    """What is to be said of a completion: what was read, and whether its thought is true of the picture."""
    row = example.question()
    read = example.FORMAT.parse(text, row["options"])
    if read.answer is None:
        return "no answer can be read" if "<answer>" not in text else "two answers are none"
    letter = "right letter" if read.answer == row["answer"] else "wrong letter"
    if not read.well_formed:
        return f"{letter}, wrong form"
    statements = mk.check_rationale(text, row["image_id"]).statements
    return f"{letter}, {'true' if all(one.holds for one in statements) else 'false'} thought"


def step() -> Sheet:
    """One step of GRPO on one question."""
    row, group = example.question(), example.GROUP
    paid = pay_of(group)
    pay = [sum(one) for one in paid]
    advantages, mean = advantages_of(pay), statistics.mean(pay)
    sheet = Sheet(
        "step", 560, "One step of GRPO: ask, sample a group, pay, compare, step",
        f"A picture with a question; {len(group)} completions of it, each with what it is paid and its advantage, "
        "a bar to the right of zero for those paid more than the group's mean and to the left for those paid "
        "less; arrows up and down: those become more likely, these less. An arrow leads back to the next "
        "questions.",
    )  # fmt: skip
    for x, number, head in (
        (28, 1, "ask"),
        (196, 2, f"sample G = {len(group)}"),
        (586, 3, "pay"),
        (650, 4, "advantage"),
        (796, 5, "step"),
    ):
        sheet.text(x, 80, f"{number}  {head}", size=15, bold=True)
    sheet.picture(row["image"], 28, 98, 140)
    sheet.text(
        28,
        258,
        "What is the most\nlikely diagnosis?"
        if row["question"] == "What is the most likely diagnosis?"
        else row["question"],
        size=13,
    )
    for i, (letter, option) in enumerate(zip("ABCD", example.lettered(row["options"]))):
        gold = letter == row["answer"]
        sheet.text(28, 300 + 19 * i, option + ("  ✓" if gold else ""), size=13, bold=gold)
    sheet.text(28, 386, "✓  known to the\n    reward alone", size=12, tone="soft")
    zero, unit = 724, 34
    for i, (text, (letter, form), advantage) in enumerate(zip(group, paid, advantages)):
        y = 98 + 42 * i
        sheet.box(196, y, 376, 36)
        sheet.text(203, y + 15, text, size=10, mono=True)
        sheet.text(203, y + 30, remark(text), size=11.5, tone="soft")
        sheet.text(604, y + 17, f"{letter + form:g}", size=16, bold=True, anchor="middle")
        sheet.text(604, y + 32, f"{letter:g} + {form:g}", size=11, tone="soft", anchor="middle")
        rising = advantage > 0
        if abs(advantage) > 1e-6:
            left = zero if rising else zero + unit * advantage
            sheet.box(left, y + 8, unit * abs(advantage), 20, "pale2" if rising else "pale3", 0)
            if not rising:
                sheet.hatch(left, y + 8, unit * abs(advantage), 20, "line3")
        side = zero - 6 if rising else zero + 6
        sheet.text(
            side,
            y + 23,
            f"{advantage:+.2f}" if abs(advantage) > 1e-6 else "0",
            size=13,
            anchor="end" if rising else "start",
        )
        if abs(advantage) > 1e-6:
            sheet.arrow((806, y + 31), (806, y + 5)) if rising else sheet.arrow((806, y + 5), (806, y + 31))
        sheet.text(
            818,
            y + 22,
            ("more likely" if rising else "less likely" if advantage < -1e-6 else "as it is"),
            size=12,
            tone="soft",
        )
    bottom = 98 + 42 * len(group)
    sheet.path(f"M{zero} 92V{bottom}")
    sheet.text(604, bottom + 16, f"mean {mean:g}", size=13, anchor="middle", bold=True)
    sheet.text(zero, bottom + 16, "(pay − mean)\n/ standard deviation", size=12, tone="soft", anchor="middle")
    sheet.arrow((846, bottom + 6), (846, bottom + 62), (98, bottom + 62), (98, bottom - 4))
    sheet.text(472, bottom + 54, "the weights move a little; then the next questions", size=13, anchor="middle")
    sheet.text(
        472,
        bottom + 82,
        "pay: 1 for the right letter + 1 for the right form.  Nobody pays for a true thought.",
        size=13,
        tone="soft",
        anchor="middle",
    )
    return sheet
