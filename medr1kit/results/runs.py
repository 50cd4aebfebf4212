"""A run on disk: what training leaves behind, written as it goes.

A folder, readable without medr1kit::

    run.json             everything needed to repeat the run: arguments, versions, seed, data fingerprint
    metrics.csv          a line per logged step
    rollouts.parquet     a row per sampled completion (rollouts.jsonl while the run lasts)
    predictions.parquet  a row per tested question
    adapter/, model/     the trained weights: LoRA, or all of them
    README.md            the run's card

Training is killed more often than it ends: by a queue, a full disk, an impatient reader. So each step's rows are on
disk before the next step begins, in formats that can be appended to, and files that are replaced as a whole are first
written beside their place and then moved there. A killed run loses at most the rows of its last step.

Whose folder it is, and who may write to it, is the matter of :mod:`medr1kit.results.folders`.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from medr1kit.formats import ResponseFormat, format_named
from medr1kit.given import path_given
from medr1kit.results.folders import (
    CONFIG,
    LINES,
    METRICS_FILE,
    PREDICTIONS_FILE,
    ROLLOUTS_FILE,
    hold_folder,
    left_in,
    read_config,
)
from medr1kit.results.numbers import count
from medr1kit.results.said import Said
from medr1kit.results.tables import METRICS, PREDICTIONS, ROLLOUTS, check_predictions
from medr1kit.vqa import DataError

_TRAINED_ON = ("train_modality", "train_task")  # of a run's labels


class Run(Said):
    """A run folder whose tables are read when first asked for; :func:`load_run` again to see what was added since.

    Attributes:
        path: the folder.
        config: what run.json holds.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any]):
        self.path = Path(path)
        self.config = dict(config)

    def sentences(self) -> list[str]:
        """Return what was trained, on what, how far it came, and what went up or down."""
        known, labels = self.config, self.config.get("labels") or {}
        who = f"{str(known['method']).upper()} of {known['model']}" if {"method", "model"} <= {*known} else "A training"
        on = next((f" on {labels[key]}" for key in _TRAINED_ON if labels.get(key) not in (None, "all")), "")
        how = [str(known["format"])] * ("format" in known) + [f"seed {known['seed']}"] * ("seed" in known)
        return [f"{', '.join([who + on, *how])}, in {self.path}.", self._course()]

    def _course(self) -> str:
        try:
            steps = self.metrics
        except DataError as error:
            return str(error)
        if steps.empty:
            return "No step was logged yet."
        column = next((name for name in ("reward", "loss") if name in steps and steps[name].notna().any()), None)
        tenth = max(1, len(steps) // 10)
        ends = [] if column is None else [part[column].mean() for part in (steps.head(tenth), steps.tail(tenth))]
        said = "; {} {:.2f} in the first tenth of them, {:.2f} in the last".format(column, *ends) if ends else ""
        return f"{count(int(steps['step'].iloc[-1]), 'step')} taken{said}."

    @property
    def labels(self) -> dict[str, Any]:
        """What predictions of the trained model are labelled with: model, method, seed, what it was trained on."""
        if not isinstance(self.config.get("labels"), dict):
            raise DataError(f"{self.path / CONFIG} does not hold the run's labels; restore it or train again")
        return dict(self.config["labels"])

    @property
    def format(self) -> ResponseFormat:
        """The response format it was trained in, one of a user's own built again."""
        if isinstance(recorded := self.config.get("response_format"), dict):  # versions before 0.3 wrote its name alone
            return ResponseFormat(**recorded)
        return format_named(self.config.get("format"))

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """A row per logged step, columns as TRL names them; no rows if nothing was logged yet."""
        file = self.path / METRICS_FILE
        try:
            text = _whole_lines(file)
            frame = pd.read_csv(io.StringIO(text)) if text else pd.DataFrame(columns=list(METRICS))
        except ValueError as error:
            raise DataError(
                f"{file} cannot be read ({' '.join(str(error).split())}); restore it, or remove it to see the rest"
            ) from error
        if "step" not in frame or not isinstance(frame.index, pd.RangeIndex):
            raise DataError(f"{file} is not the metrics of a run; restore it, or remove it to see the rest")
        return frame

    @cached_property
    def rollouts(self) -> pd.DataFrame:
        """A row per sampled completion; no rows if nothing was sampled yet."""
        if (self.path / ROLLOUTS_FILE).exists():
            return read_parquet(self.path / ROLLOUTS_FILE)
        return _read_rollout_lines(self.path / LINES)

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """A row per tested question; no rows if nothing was tested yet."""
        if (self.path / PREDICTIONS_FILE).exists():
            return read_parquet(self.path / PREDICTIONS_FILE)
        return pd.DataFrame(columns=list(PREDICTIONS))


def load_run(path: str | Path) -> Run:
    """Open a run folder, also one whose training was killed or is still going on.

    Args:
        path: the folder that was the ``output_dir`` of a training.

    Raises:
        DataError: if the folder is missing, or has no readable run.json.
    """
    path = path_given(path, "path")
    return Run(path, read_config(path))


class RunWriter:
    """Writes a run folder while training goes on; also a context manager that closes itself.

    Args:
        path: the run folder; made if missing.
        config: goes to run.json at once. Values JSON does not know (paths, enums, configs) are written as their text.
        overwrite: remove what an earlier run left in this folder, its weights too; other files stay.
        step: go on with the run that is in this folder instead, from its checkpoint of this step: what was written
            after it is cut.

    Raises:
        DataError: if the folder cannot be held (:func:`hold_folder`); it is held until the run is closed.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any], overwrite: bool = False, step: int | None = None):
        self._columns: list[str] = []
        self._step: Any = None  # of the last row of the metrics
        self._closed = False
        self._held = ExitStack()
        self._config: dict[str, Any] = {"written_by": "medr1kit"}
        self.path = self._held.enter_context(hold_folder(path, overwrite or step is not None))
        try:
            if step is None:
                for left in left_in(self.path):  # of an earlier run: its weights must not pass for this one's
                    if left.name != CONFIG:
                        shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
            else:
                config = {**config, **self._go_on(step)}
            self.update_config(**config)
        except BaseException:
            self._held.close()
            raise

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _go_on(self, step: int) -> dict[str, Any]:
        """Cut the tables behind a step; return what run.json keeps of the run so far."""
        run = load_run(self.path)
        rollouts, metrics = run.rollouts, self.path / METRICS_FILE
        if len(rollouts):
            rows = rollouts[rollouts["step"] <= step].to_dict("records")
            replace_file(self.path / LINES, "".join(map(_json_line, rows)))
            (self.path / ROLLOUTS_FILE).unlink(missing_ok=True)  # a run that was stopped, not killed, has made it
        if lines := list(csv.reader(io.StringIO(_whole_lines(metrics)))):
            self._columns, place = lines[0], lines[0].index("step")
            replace_file(metrics, _csv_lines([lines[0], *(row for row in lines[1:] if int(row[place]) <= step)]))
        for left in self.path.glob("*.part"):  # of a kill between writing a file and moving it to its place
            left.unlink()
        kept = {name: run.config[name] for name in ("versions", "command") if name in run.config}
        return kept | {"resumed": [*run.config.get("resumed", []), step]}

    def update_config(self, **values: Any) -> None:
        """Add values to run.json, which is replaced as a whole."""
        self._config |= values
        text = json.dumps(self._config, indent=2, ensure_ascii=False, default=plain_or_text)
        replace_file(self.path / CONFIG, text + "\n")

    def metrics_row(self, row: Mapping[str, Any]) -> None:
        """Append one logged step to metrics.csv, or complete its last row if that is of the same step.

        Args:
            row: column -> number, text, None or nan; numpy and torch scalars are welcome. A column not seen before is
                added to the file, empty in earlier rows; one that is missing here stays empty.
        """
        file, step = self.path / METRICS_FILE, row.get("step")
        new = [column for column in row if column not in self._columns]
        again = step is not None and step == self._step  # an evaluation, after what the step itself had to say
        earlier: list[list[str]] = []
        if self._columns and (new or again):
            earlier = list(csv.reader(io.StringIO(file.read_text(encoding="utf-8"))))[1:]
        if again:
            row = dict(zip(self._columns, earlier.pop())) | row
        self._columns += new
        self._step = step
        line = [_cell(row.get(column)) for column in self._columns]
        if new or again:
            widened = [cells + [""] * (len(self._columns) - len(cells)) for cells in earlier]
            replace_file(file, _csv_lines([self._columns, *widened, *([line] if again else [])]))
        if not again:
            _append(file, _csv_lines([line]))

    def rollout_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append one step's completions, as :data:`medr1kit.results.tables.ROLLOUTS` names their columns.

        Raises:
            ValueError: if the run is closed.
        """
        if self._closed:
            raise ValueError(f"the run at {self.path} is closed; its rollouts are complete")
        _append(self.path / LINES, "".join(map(_json_line, rows)))

    def write_predictions(self, frame: pd.DataFrame) -> None:
        """Write predictions.parquet, in place of an earlier one.

        Raises:
            DataError: if columns of the predictions schema are missing.
        """
        frame = check_predictions(frame)
        replace_file(self.path / PREDICTIONS_FILE, frame.to_parquet(index=False))

    def close(self) -> None:
        """Turn rollouts.jsonl into rollouts.parquet and let the folder go; a second call does nothing."""
        lines = self.path / LINES
        with self._held:
            if not self._closed and lines.exists():
                replace_file(self.path / ROLLOUTS_FILE, _read_rollout_lines(lines).to_parquet(index=False))
                lines.unlink()
            self._closed = True


def _json_line(row: Mapping[str, Any]) -> str:
    return json.dumps(dict(row), ensure_ascii=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    """A numpy or torch scalar or array as plain Python."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"cannot write a {type(value).__name__} to the run: {value!r:.80}")


def plain_or_text(value: Any) -> Any:
    """Return what run.json holds in place of a value that JSON does not know."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _cell(value: Any) -> Any:
    value = value.tolist() if hasattr(value, "tolist") else value
    return "" if value != value else value  # nan; None is written as nothing, too


def _csv_lines(rows: Iterable[Iterable[Any]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _append(file: Path, text: str) -> None:
    # Opened anew each time: what was written is with the operating system and outlives a kill of this process.
    with file.open("a", encoding="utf-8", newline="") as handle:
        handle.write(text)


def replace_file(file: Path, content: str | bytes) -> None:
    """Write a file as a whole: beside its place, and then moved there, so that nobody ever reads half of it.

    Args:
        file: where it goes; what is there is replaced.
        content: its text, written as UTF-8 with the line ends it has, or its bytes.
    """
    file = Path(os.path.realpath(file))  # a link stays one
    beside = file.with_name(f"{file.name}.{os.getpid()}.part")  # two processes may write the same file
    beside.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(beside, file)


def _whole_lines(file: Path) -> str:
    """The text up to the last line end: what follows it was being written when the run was killed."""
    if not file.exists():
        return ""
    content = file.read_bytes()
    return content[: content.rfind(b"\n") + 1].decode("utf-8")


def _read_rollout_lines(file: Path) -> pd.DataFrame:
    # Only "\n" ends a row: a completion may hold other line separators, which JSON leaves as they are.
    rows = []
    for number, line in enumerate(_whole_lines(file).split("\n")[:-1], start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise DataError(f"{file}, line {number} is not JSON ({error}); delete it to read the rest") from error
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(ROLLOUTS))


def read_parquet(file: Path, wanted: Mapping[str, Sequence[str]] | None = None) -> pd.DataFrame:
    """Return a table from a parquet file, its options as lists; of all rows or those with the values that are wanted.

    Raises:
        DataError: if the file cannot be read.
    """
    try:
        frame = pd.read_parquet(file, filters=[(name, "in", values) for name, values in (wanted or {}).items()] or None)
    except TypeError:  # a column without a single value has no type, and nothing of it is wanted
        frame = pd.read_parquet(file).iloc[:0]
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read ({error}); restore it or run that step again") from error
    if "options" in frame:  # parquet gives numpy arrays; the tables hold lists
        frame["options"] = [None if options is None else list(options) for options in frame["options"]]
    return frame
