"""The tables of ``medr1kit/results/recorded/worlds/`` from the answers of the cells.

Every model answers the same questions, so a change is a pair: before, after. Where several modalities or seeds stand in
one row they are averaged; ``low`` and ``high`` let the questions vary, ``low_seeds`` and ``high_seeds`` the seeds, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t

import medr1kit as mk
from benchmarks.worlds.cells import cells
from benchmarks.worlds.run import RUNS
from medr1kit.data.phantoms import question_of
from medr1kit.data.phantoms.truth import ImageId
from medr1kit.data.phantoms.twins import TWINS
from medr1kit.results.rationales import rationale_truth
from medr1kit.results.stats import cluster_interval, pooled_difference
from medr1kit.study.folder import cell_folder, read_record, state_of
from medr1kit.vqa import TASKS, option_texts

RECORDED = Path(mk.__file__).parent / "results" / "recorded" / "worlds"
WHO = ["group", "train_modality", "format", "method"]
RECOGNITION = "Modality Recognition"


def write_tables(folder: Path = RECORDED) -> None:
    """Compute every table and write it."""
    folder.mkdir(parents=True, exist_ok=True)
    preds = answers()
    tables = {"base": base, "changes": changes, "links": links, "twins": twins, "rationales": rationales}
    for name, make in (tables | {"facts": facts}).items():
        make(preds).round(4).to_csv(folder / f"{name}.csv", index=False)
    looked = looked_into()
    for name, make in {"thoughts": thoughts, "samples": samples}.items():
        make(looked).round(4).to_csv(folder / f"{name}.csv", index=False)
    curves().round(4).to_csv(folder / "curves.csv", index=False)
    runs().to_csv(folder / "runs.csv", index=False)


def answers() -> pd.DataFrame:
    """All answers of all finished cells, with what was asked and beside which images."""
    done = [cell for cell in cells() if state_of(RUNS, cell).state == "done"]
    preds = pd.concat([pd.read_parquet(cell_folder(RUNS, cell) / "predictions.parquet") for cell in done])
    preds = preds.replace({"method": {"sft-answer": "sft"}}).reset_index(drop=True)
    own = preds["modality"] == preds["train_modality"]
    preds = preds[~(preds["asked"].str.contains("away") & own)]  # "away" is asked of all eight modalities
    elsewhere = (preds["asked"] == "twins") & ~own & (preds["method"] != "base")
    return preds.assign(asked=preds["asked"].mask(elsewhere, "twins away"))


def base(preds: pd.DataFrame) -> pd.DataFrame:
    """The untrained model by what is asked, images, format and task."""
    rows = preds[preds["method"] == "base"]
    keys = ["asked", "images", "format"]
    whole = mk.score(rows, by=keys).query("asked != 'all'").assign(task="all")
    return pd.concat([whole, mk.score(rows, by=[*keys, "task"])]).drop(columns=["mean_tokens", "cluster"])


def changes(preds: pd.DataFrame) -> pd.DataFrame:
    """What each training changed, by modality and for their mean; overall, without Modality Recognition, by task."""
    rows = []
    for who, before, after in _pairs(preds):
        for part, chosen in _parts(after):
            rows.append(who | {"part": part} | _change(before[chosen], after[chosen]))
    return pd.DataFrame(rows)


def links(preds: pd.DataFrame) -> pd.DataFrame:
    """How much more of a gain there is beside the right picture than beside a shuffled or a blank one."""
    rows = []
    for asked in ("B own", "A own, all", "twins"):
        for who, before, after in _pairs(preds[(preds["asked"] == asked) & (preds["images"] == "right")]):
            if who["method"] == "base":
                continue
            for images in ("shuffled", "blank"):
                other = preds[(preds["asked"] == asked) & (preds["images"] == images)]
                wrong_before = _beside(other[other["method"] == "base"], after, ["id", "format"])
                wrong_after = _beside(other[other["method"] != "base"], after, ["id", "format", "seed", *WHO])
                if wrong_before is None or wrong_after is None:
                    continue
                for part, chosen in _parts(after):
                    gaps = (before["correct"] - wrong_before)[chosen], (after["correct"] - wrong_after)[chosen]
                    row = who | {"images": images, "part": part, "gap_before": gaps[0].mean()}
                    change = _mean_of(gaps[1] - gaps[0], after["id"][chosen], after["seed"][chosen])
                    rows.append(row | {"gap_after": gaps[1].mean()} | change)
    return pd.DataFrame(rows)


def _mean_of(values: pd.Series, ids: pd.Series, seeds: pd.Series) -> dict[str, float]:
    """Mean of numbers that are no verdicts, with the two intervals of ``pooled_difference``."""
    mean, by_question, by_seed = values.mean(), values.groupby(ids).mean(), values.groupby(seeds).mean()
    over_questions = by_question.var() / len(by_question)
    row = {"difference": mean, "low": mean - 1.96 * over_questions**0.5, "high": mean + 1.96 * over_questions**0.5}
    if (runs := len(by_seed)) < 2:
        return row | {"low_seeds": np.nan, "high_seeds": np.nan}
    variance = over_questions + (over_seeds := by_seed.var() / runs)
    if variance == 0:
        return row | {"low_seeds": mean, "high_seeds": mean}
    freedom = variance**2 / (over_questions**2 / (len(by_question) - 1) + over_seeds**2 / (runs - 1))
    reach = t.ppf(0.975, freedom) * variance**0.5
    return row | {"low_seeds": mean - reach, "high_seeds": mean + reach}


def _beside(table: pd.DataFrame, rows: pd.DataFrame, keys: list[str]) -> pd.Series | None:
    """The verdicts of a table in the order of other rows; None if one is missing."""
    found = table.drop_duplicates(keys).set_index(keys)["correct"].astype(float)
    found = found.reindex(pd.MultiIndex.from_frame(rows[keys])).to_numpy()
    return None if pd.isna(found).any() else pd.Series(found, rows.index)


def _pairs(preds: pd.DataFrame) -> Iterator[tuple[dict, pd.DataFrame, pd.DataFrame]]:
    """Before and after, row by row, of each training by modality and of the mean of its modalities."""
    untrained = preds[preds["method"] == "base"].drop_duplicates(["id", "format", "asked", "images"])
    untrained = untrained.set_index(["id", "format", "asked", "images"])
    trained = preds[preds["method"] != "base"]
    for keys in (["group", "format", "method"], WHO):
        for names, after in trained.groupby([*keys, "asked", "images"], dropna=False):
            who = {"train_modality": "all"} | dict(zip([*keys, "asked", "images"], names))
            same = after.replace({"asked": {"twins away": "twins"}})
            index = pd.MultiIndex.from_frame(same[["id", "format", "asked", "images"]])
            known = index.isin(untrained.index)
            after, index = after[known].reset_index(drop=True), index[known]
            if len(after):
                yield who, untrained.loc[index].reset_index(), after.assign(correct=after["correct"].astype(float))
    undone = preds[(preds["asked"] == "B own, undone")]
    for format, after in undone.groupby("format"):
        for modality in ("all", *after["modality"].unique()):
            some = after if modality == "all" else after[after["modality"] == modality]
            index = [(i, format, "B own", "right") for i in some["id"]]
            who = {"group": "arithmetic", "train_modality": modality, "format": format, "method": "none"}
            who |= {"asked": "B own", "images": "right"}
            yield who, untrained.loc[index].reset_index(), some.reset_index(drop=True).assign(seed=0)


def _parts(rows: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    yield "all", rows["task"].notna()
    yield "without MR", rows["task"] != RECOGNITION
    for task in TASKS:
        if (rows["task"] == task).any():
            yield task, rows["task"] == task


def _change(before: pd.DataFrame, after: pd.DataFrame) -> dict:
    two = [frame["correct"].astype(float).to_numpy() for frame in (before, after)]
    pooled = pooled_difference(*two, after["id"].to_numpy(), after["seed"].to_numpy())
    row = {"seeds": after["seed"].nunique(), "n": after["id"].nunique()}
    row |= {"accuracy_before": two[0].mean(), "accuracy_after": two[1].mean()} | pooled._asdict()
    by_seed = pd.Series(two[1] - two[0]).groupby(after["seed"].to_numpy()).mean()
    row |= {"least_seed": by_seed.min(), "most_seed": by_seed.max()}
    return row | {"well_formed_after": after["well_formed"].astype(float).mean()}


def twins(preds: pd.DataFrame) -> pd.DataFrame:
    """The questions about twins: right answers, those right up to the twin, and how many of these name the right one.

    The last is .5 for a coin. Accuracy also rises where a model has noticed that the answer is one of the two.
    """
    rows = preds[preds["asked"].isin(["twins", "twins away"])]
    rows = rows.assign(near=_up_to_twin(rows), seed=rows["seed"].fillna(-1))
    rows["place"] = rows["asked"].map({"twins": "own", "twins away": "away"})
    found = []
    keys = ["group", "format", "method", "train_modality", "place", "modality", "images"]
    for names, part in rows.groupby(keys, dropna=False):
        near = part[part["near"]]
        low, high = mk.score(part, cluster="id")[["low", "high"]].iloc[0]
        row = {"seeds": part["seed"].nunique(), "n": part["id"].nunique(), "accuracy": part["correct"].mean()}
        row |= {"low": low, "high": high, "up_to_twin": part["near"].mean(), "right_of_these": near["correct"].mean()}
        ends = cluster_interval(near["correct"], near["id"]) if len(near) else (np.nan, np.nan)
        found.append(dict(zip(keys, names)) | row | dict(zip(("low_of_these", "high_of_these"), ends)))
    return pd.DataFrame(found)


def _up_to_twin(rows: pd.DataFrame) -> list[bool]:
    """Whether each answer is the gold option, or would be with the twins exchanged."""
    gold, said = (option_texts(rows["options"], rows[who]) for who in ("answer", "predicted"))
    others = [dict(zip(TWINS[modality], TWINS[modality][::-1])) for modality in rows["modality"]]
    swapped = [" ".join(other.get(word, word) for word in text.split()) for text, other in zip(gold, others)]
    return [text in pair for text, *pair in zip(said, gold, swapped)]


def rationales(preds: pd.DataFrame) -> pd.DataFrame:
    """How true the rationales are, and what they conclude, at home and away."""
    rows = preds[(preds["images"] == "right") & (preds["format"] != "no-think")]
    rows = rows.assign(train_modality=rows["train_modality"].fillna("none"))
    by = [*WHO, "asked"]
    return pd.concat([rationale_truth(rows, by=by).assign(fact="all"), rationale_truth(rows, by=[*by, "fact"])])


def facts(preds: pd.DataFrame) -> pd.DataFrame:
    """Accuracy by the number of facts that a question combines."""
    rows = preds[(preds["images"] == "right") & preds["asked"].isin(["B own", "A own"])]
    rows = rows.assign(n_facts=rows["id"].map(_n_facts), train_modality=rows["train_modality"].fillna("none"))
    return mk.score(rows, by=[*WHO, "asked", "n_facts"], cluster="id").drop(columns=["mean_tokens", "cluster"])


def _n_facts(row_id: str) -> int:
    return question_of(ImageId.read(row_id)).kind.n_facts


def looked_into() -> pd.DataFrame:
    """All answers of base and "machine" models to other thoughts, and their sampled ones."""
    done = [cell for cell in cells() if (cell_folder(RUNS, cell) / "looked_into.parquet").exists()]
    found = pd.concat([pd.read_parquet(cell_folder(RUNS, cell) / "looked_into.parquet") for cell in done])
    return found.replace({"method": {"sft-answer": "sft"}}).assign(seed=found["seed"].fillna(0))


def thoughts(looked: pd.DataFrame) -> pd.DataFrame:
    """What another thought does, paired with the model's own and with true facts; Modality Recognition left out."""
    rows = []
    looked = looked[(looked["kind"] != "sampled") & (looked["task"] != RECOGNITION)]
    for (method, scanner), some in looked.groupby(["method", "scanner"]):
        by_kind = {kind: part.set_index(["id", "seed"]).sort_index() for kind, part in some.groupby("kind")}
        for kind, part in by_kind.items():
            against = by_kind["true" if kind == "another" else "own"]["correct"].astype(float)
            right = part["correct"].astype(float)
            ids, seeds = (part.index.get_level_values(name) for name in ("id", "seed"))
            pooled = pooled_difference(against.to_numpy(), right.to_numpy(), ids, seeds)
            row = {
                "method": method,
                "scanner": scanner,
                "kind": kind,
                "n": part["correct"].size,
                "questions": ids.nunique(),
            }
            row |= {"accuracy": right.mean(), "against": "true" if kind == "another" else "own"} | pooled._asdict()
            rows.append(row | {"followed": part["followed"].astype(float).mean()})
    return pd.DataFrame(rows)


def samples(looked: pd.DataFrame) -> pd.DataFrame:
    """Sampled answers: the share that is right, and of questions the share with a right one among eight."""
    sampled = looked[looked["kind"] == "sampled"].assign(correct=lambda frame: frame["correct"].astype(float))
    keys = ["method", "format", "scanner", "train_modality", "seed", "id"]
    questions = sampled.groupby(keys, dropna=False)["correct"].agg(["mean", "max", "size"]).reset_index()
    questions["mixed"] = questions["mean"].between(0, 1, inclusive="neither")
    found = questions.groupby(keys[:3]).agg(
        answers=("size", "sum"), pass_at_1=("mean", "mean"), pass_at_8=("max", "mean"), mixed_groups=("mixed", "mean")
    )
    return found.reset_index()


def curves() -> pd.DataFrame:
    """GRPO's rewards by step, means of ten steps, over modalities and seeds."""
    rows = []
    for cell in cells():
        if cell.method == "grpo" and state_of(RUNS, cell).state == "done":
            metrics = pd.read_csv(cell_folder(RUNS, cell) / "metrics.csv")
            step = (metrics["step"] - 1) // 10 * 10 + 5
            reward = metrics["rewards/accuracy_reward/mean"].groupby(step).mean()
            who = {"group": cell.definition["group"], "format": cell.format, "train_modality": cell.trained_on}
            rows += [who | {"step": at, "accuracy_reward": value} for at, value in reward.items()]
    return pd.DataFrame(rows).groupby(["group", "format", "train_modality", "step"], as_index=False).mean()


def runs() -> pd.DataFrame:
    """Seconds of each training and its questions, on one core beside another such run."""
    rows = []
    for cell in cells():
        if cell.method != "base" and state_of(RUNS, cell).state == "done":
            record = read_record(cell_folder(RUNS, cell))
            row = {"group": cell.definition["group"], "train_modality": cell.trained_on, "format": cell.format}
            row |= {"method": cell.method, "seed": cell.seed, "train_cpu_seconds": record["cpu_seconds"]["train"]}
            rows.append(row | {"ask_cpu_seconds": record["cpu_seconds"]["predict"]})
    return pd.DataFrame(rows)
