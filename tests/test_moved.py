"""Old names of modules: they work, say the new one, and take nothing's place."""

import subprocess
import sys

import pytest

OLD_IMPORTS = {
    "from medr1kit.phantoms import redraw": "medr1kit.data.phantoms",
    "from medr1kit.predict import chat_prompt": "medr1kit.models.predict",
    "from medr1kit.rationales import concluded_letter": "medr1kit.results.rationales",
    "from medr1kit.stats import cluster_interval, pooled_difference": "medr1kit.results.stats",
    "from medr1kit.tiny.targets import WORDING": "medr1kit.data.phantoms.questions",
}


def fresh(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("old", OLD_IMPORTS)
def test_an_import_of_version_0_1_gives_the_same_object_and_names_the_new_module(old):
    names, new = old.partition(" import ")[2], OLD_IMPORTS[old]
    result = fresh(
        f"import medr1kit\n{old}\nfrom importlib import import_module\n"
        f"there = import_module({new!r})\nassert all(x is getattr(there, n) for n, x in "
        f"dict(zip({names.split(', ')!r}, ({names},))).items())\n"
    )
    assert result.returncode == 0, result.stderr
    assert f"is now {new}" in result.stderr and "FutureWarning" in result.stderr
    assert "<string>:2: " in result.stderr, "the warning shows the line to change"


def test_the_public_predict_works_after_its_old_module_was_imported():
    result = fresh(
        "import warnings; warnings.simplefilter('ignore')\n"
        "import medr1kit as mk\nimport medr1kit.predict\nfrom medr1kit.predict import chat_prompt\n"
        "try: mk.predict(1)\nexcept TypeError as error: print(error)\n"
    )
    assert "predict() missing" in result.stdout, result.stderr


def test_names_that_never_were_modules_are_not_found():
    with pytest.raises(ModuleNotFoundError):
        import medr1kit.phantom  # noqa: F401
