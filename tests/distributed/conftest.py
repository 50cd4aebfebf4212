"""What several tests of scattered weights are held against."""

import pytest
from sharded_cases import ALONE, ONE, WHOLE, train_all


@pytest.fixture(scope="session")
def one_process(tmp_path_factory):
    """Folder of what one process trains on the same rows: both methods, adapters and all weights."""
    folder = tmp_path_factory.mktemp("alone")
    trainings = {method: (method, dict(ALONE)) for method in ("sft", "grpo")}
    trainings |= {f"{method}-whole": (method, ALONE | WHOLE) for method in ("sft", "grpo")}
    train_all(folder, trainings, start=ONE)
    return folder
