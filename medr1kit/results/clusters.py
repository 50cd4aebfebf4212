"""What counts as independent: the one rule behind the interval of every score and every difference.

Ten questions about one patient are not ten patients: they stand and fall together, and an interval that counts them
singly is too narrow. The same holds for one question answered by three seeds, or in two formats. So, unless told
otherwise, an interval counts **patients** where the data names them, else **questions**. Where no two answers share
their patient or question, each answer counts, and the interval is Wilson's.

Rows whose patient is not known, among others, count by their question. ``cluster=False`` counts every row;
``cluster="image_id"``, or any other column, counts what is equal there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from medr1kit.vqa import DataError

ROW = "row"
"""How a table calls what was counted where each answer counts for itself."""


def codes(frames: Sequence[pd.DataFrame], columns: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return a number for what some columns say in each row, -1 where a single one says nothing; and the last's names.

    A column that a frame does not have says nothing.
    """
    numbers = None
    for column in columns:
        if len(frames) == 1 and column in frames[0]:
            values = frames[0][column]  # in its own dtype: much sooner than as objects
        else:
            parts = [frame[column].to_numpy(object) if column in frame else [None] * len(frame) for frame in frames]
            values = np.concatenate(parts, dtype=object)
        own, names = pd.factorize(values)
        numbers = own if numbers is None else pd.factorize(numbers * (len(names) + 1) + own + 1)[0]
    return numbers, np.asarray(names, dtype=object)


def clustering(frames: Sequence[pd.DataFrame], cluster: str | bool | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return what the rows of some tables count as.

    Args:
        frames: checked predictions, counted as if they stood below each other.
        cluster: None: the patient, of which one row that names it is enough for its question; else the question; a row
            without either counts for itself. A column: what is equal there. False: every row.

    Returns:
        A number a row, equal where two do not count as independent; and whether it stands for a patient.

    Raises:
        DataError: if two rows answer one question of two patients.
    """
    n = sum(map(len, frames))
    if cluster is False:
        return np.arange(n), np.zeros(n, dtype=bool)
    if cluster is not None:
        return codes(frames, [cluster])[0], np.zeros(n, dtype=bool)
    question, ids = codes(frames, ["id"])
    question = np.where(question < 0, len(ids) + np.arange(n), question)
    row_patient, patients = codes(frames, ["patient_id"])
    patient = np.full(len(ids) + n, -1)
    np.maximum.at(patient, question, row_patient)
    if (other := (row_patient >= 0) & (row_patient < patient[question])).any():
        row = int(other.argmax())
        raise DataError(
            f"the question {ids[question[row]]!r:.60} is of patient {patients[row_patient[row]]!r:.60} in one row "
            f"and of {patients[patient[question[row]]]!r:.60} in another; give one patient one name, and one question "
            "one id, or count rows with cluster=False"
        )
    patient = patient[question]
    return np.where(patient < 0, len(patients) + question, patient), patient >= 0


def counted(units: np.ndarray, by_patient: np.ndarray, cluster: str | bool | None = None) -> str:
    """Return what the interval of some rows counts: "patient_id", "id", a column that was asked for, or "row".

    Args:
        units, by_patient: of these rows, from :func:`clustering`.
        cluster: as there.

    >>> counted(np.array([4, 4, 7]), np.array([True, True, False])), counted(np.array([4, 7]), np.array([False, False]))
    ('patient_id', 'row')
    """
    if isinstance(cluster, str):
        return cluster
    if by_patient.any():
        return "patient_id"
    return ROW if len(np.unique(units)) == len(units) else "id"
