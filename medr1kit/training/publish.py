"""A run on the Hugging Face Hub: its weights, card and curves, in one commit.

TRL pushes what lies in the run's folder whenever it saves. Here the end is pushed, once, after the held-out questions
were asked, so that the card says how they were answered. Weights stand at the top of the repository, where others look
for them. Not pushed: questions, completions and answers, which quote the data, and the command line, which may hold a
token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
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


def refuse_push(settings: Mapping[str, Any]) -> None:
    """Ask the Hub who pushes and whereto, before a training of hours ends without having been pushed.

    Args:
        settings: of a training; of them ``hub_model_id``, ``hub_token``, ``hub_private_repo`` and ``output_dir``.

    Raises:
        DataError: if the Hub cannot be reached, knows nobody by this token, or would not let him write there; or if a
            private repository is asked for, and one of that name is public.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.utils import validate_repo_id

    name = settings.get("hub_model_id") or Path(settings["output_dir"]).resolve().name
    try:
        if constants.HF_HUB_OFFLINE:
            raise DataError("HF_HUB_OFFLINE is set")
        validate_repo_id(name)
        api = HfApi(token=settings.get("hub_token"))
        me = api.whoami(cache=True)  # the Hub counts how often it is asked this
        _refuse_right(me, name)
        if settings.get("hub_private_repo"):
            _refuse_public(api, name if "/" in name else f"{me['name']}/{name}")
    except Exception as error:  # offline, no network, no token, a token that has expired: each has its own
        why = " ".join(str(error).split())[:200]
        raise DataError(
            f"push_to_hub=True cannot push to {name!r} ({why}); log in with `hf auth login` or give --hub_token and "
            "--hub_model_id, or leave it out"
        ) from error


def _refuse_right(me: Mapping[str, Any], name: str) -> None:
    """Refuse a token that may not write; of what the Hub says of it, only what is certain."""
    token = me.get("auth", {}).get("accessToken", {})
    if token.get("role") == "read" or (token.get("role") == "fineGrained" and "repo.write" not in str(token)):
        raise DataError(f"the token of {me['name']} may only read")
    owners = [me["name"], *(one["name"] for one in me.get("orgs", ()))]
    if token.get("role") == "write" and "/" in name and name.partition("/")[0] not in owners:
        raise DataError(f"{me['name']} may write to {', '.join(owners)} alone")


def _refuse_public(api: Any, name: str) -> None:
    """Refuse a repository that is there and public: asking for a private one does not make it private."""
    from huggingface_hub.errors import RepositoryNotFoundError

    with suppress(RepositoryNotFoundError):
        if not api.model_info(name).private:
            raise DataError(f"{name} is there and public, and a private one is asked for; choose another name")


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
        DataError: if the run has no weights, the Hub cannot be reached or refuses, or a repository of that name is
            public and a private one is asked for.
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
        if private:
            _refuse_public(api, made.repo_id)
        added = [CommitOperationAdd(path, content) for path, content in files.items()]
        api.create_commit(made.repo_id, added, commit_message="A run of medr1kit")
    except Exception as error:  # no network, offline mode, no token, no right to write: each library has its own
        why = " ".join(str(error).split())[:200]
        raise DataError(
            f"the run is written to {run.path}, but could not be pushed ({type(error).__name__}: {why}); push it "
            "later: medr1kit.training.publish.push_run(load_run(FOLDER), NAME)"
        ) from error
    return str(made)
