"""A run on the Hugging Face Hub: its weights, card and curves, in one commit.

TRL pushes what lies in the run's folder whenever it saves. Here the end is pushed, once, after the held-out questions
were asked, so that the card says how they were answered. Weights stand at the top of the repository, where others look
for them. Not pushed: questions, completions and answers, which quote the data, and the command line, which may hold a
token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medr1kit.results.runs import Run
from medr1kit.vqa import DataError

_TAKEN = ("push_to_hub", "hub_model_id", "hub_private_repo", "hub_token")


def take_push(arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Take TRL's arguments about the Hub out of a training's, so that TRL does not push by itself.

    Returns:
        Arguments of :func:`push_run`, or None if nothing is to be pushed.

    Raises:
        DataError: if one of them asks for something else than one push at the end.
    """
    if not arguments.get("push_to_hub"):
        return None
    taken = {name: arguments.pop(name) for name in list(arguments) if name == "push_to_hub" or name.startswith("hub_")}
    for name in taken:
        if name not in _TAKEN and (name, str(taken[name])) != ("hub_strategy", "end"):
            raise DataError(f"--{name} is not supported: a run is pushed once, at its end; leave it out")
    names = {"hub_model_id": "name", "hub_private_repo": "private", "hub_token": "token"}
    return {ours: taken[theirs] for theirs, ours in names.items() if theirs in taken}


def push_run(run: Run, name: str | None = None, *, private: bool | None = None, token: str | None = None) -> str:
    """Push a run's weights, card, settings and curves to the Hub.

    Args:
        run: a finished run.
        name: of the repository, ``owner/name``, or a name of the user's own; the folder's name if None.
        private: whether a new repository is private; None leaves it to the account.
        token: a token with the right to write; None takes the one of ``hf auth login``.

    Returns:
        The repository's address.

    Raises:
        DataError: if the run has no weights, or the Hub cannot be reached or refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    weights = next((run.path / part for part in ("adapter", "model") if (run.path / part).is_dir()), None)
    if weights is None:
        raise DataError(f"the run {run.path} has neither adapter/ nor model/; it did not finish: nothing was pushed")
    files: Mapping[str, Path | bytes] = {file.name: file for file in sorted(weights.iterdir()) if file.is_file()}
    files |= {file: run.path / file for file in ("README.md", "metrics.csv") if (run.path / file).is_file()}
    kept = {key: value for key, value in run.config.items() if key != "command"}
    files |= {"run.json": json.dumps(kept, indent=2, ensure_ascii=False).encode()}
    api = HfApi(token=token)
    try:
        made = api.create_repo(name or run.path.resolve().name, private=private, exist_ok=True)
        added = [CommitOperationAdd(path, content) for path, content in files.items()]
        api.create_commit(made.repo_id, added, commit_message="A run of medr1kit")
    except Exception as error:  # no network, offline mode, no token, no right to write: each library has its own
        why = " ".join(str(error).split())[:200]
        raise DataError(
            f"the run is written to {run.path}, but could not be pushed ({type(error).__name__}: {why}); push it "
            "later: medr1kit.training.publish.push_run(load_run(FOLDER), NAME)"
        ) from error
    return str(made)
