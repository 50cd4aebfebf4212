"""What several tests of scattered weights are held against."""

import pytest
from sharded_cases import ALONE, ONE, WHOLE, train_all


@pytest.fixture(scope="session")
def one_process(tmp_path_factory):
    """Folder of what one process trains on the same rows: both methods, adapters and all weights.

    Scattered weights are trained by TRL's own GRPO step; what that does in one process stands in "grpo-stock".
    """
    folder = tmp_path_factory.mktemp("alone")
    trainings = {method: (method, dict(ALONE)) for method in ("sft", "grpo")}
    trainings |= {f"{method}-whole": (method, ALONE | WHOLE) for method in ("sft", "grpo")}
    stock = {"shared_prefix": False}
    trainings |= {"grpo-stock": ("grpo", ALONE | stock), "grpo-whole-stock": ("grpo", ALONE | WHOLE | stock)}
    train_all(folder, trainings, start=ONE)
    return folder
