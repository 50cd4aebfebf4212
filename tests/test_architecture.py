"""The house: imports run one way, the torch-free half is free of torch, and the package is light to import."""

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import medr1kit as mk

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "medr1kit"

# Bottom-up. A module imports from lower layers, or from its own as long as there is no circle.
LAYERS = (
    {"alike", "leftovers", "vqa", "untagged", "tags", "choices", "formats", "progress", "given"},
    {"rewards"},
    {"data"},
    {"results"},
    {"audits"},
    {"views"},
    {"models"},
    {"training"},
    {"study"},
    {"commands"},
    {"__main__"},
)
LAYER_OF = {name: i for i, layer in enumerate(LAYERS) for name in layer}
TORCH_FREE = set().union(*LAYERS[:6])
TORCH = {"torch", "torchvision", "transformers", "trl", "peft", "accelerate"}
LONGEST = 350


def dotted(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}
HOUSE = [name for name in MODULES if name not in ("medr1kit", "medr1kit.moved")]  # all but the lazy front door


@cache
def imported(name):
    """Every module a module imports, at its top, inside functions, or for type hints only."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                public = source == "medr1kit" and alias.name in mk._MODULE_OF  # through the front door
                found.add(inner if inner in MODULES else f"medr1kit.{mk._MODULE_OF[alias.name]}" if public else source)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            assert isinstance(node.args[0], ast.Constant), f"{name} imports a module whose name is not written out"
            found.add(node.args[0].value)
    return found


def ours(name):
    return {module for module in imported(name) if module.split(".")[0] == "medr1kit"}


def part(name):
    """The layer's name for a module: medr1kit.data.phantoms.ct is part of "phantoms"."""
    return name.split(".")[1]


def fresh(code):
    """Run code in a new interpreter and return what it prints, read as JSON."""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


# --- imports ----------------------------------------------------------------------------------------------------------


def test_imports_are_seen_wherever_they_stand():
    assert {"medr1kit.formats", "medr1kit.vqa"} <= imported("medr1kit.rewards")
    assert "medr1kit.data.phantoms.canvas" in imported("medr1kit.data.phantoms.ct")
    assert "medr1kit.data.phantoms" in imported("medr1kit.data.sources"), "it stands inside a function"
    assert "torch" in imported("medr1kit.models.digests"), "it stands inside a function"


@pytest.mark.parametrize("name", HOUSE)
def test_every_module_has_its_place(name):
    assert part(name) in LAYER_OF, f"give {part(name)} a place in LAYERS"


@pytest.mark.parametrize("name", HOUSE)
def test_imports_run_one_way(name):
    upward = {module for module in ours(name) - {"medr1kit"} if LAYER_OF[part(module)] > LAYER_OF[part(name)]}
    assert not upward, f"{name} imports {', '.join(sorted(upward))}, which stand above it"
    assert "medr1kit" not in ours(name), f"{name} imports the front door; import the module itself"


def test_imports_make_no_circle():
    TopologicalSorter({name: ours(name) for name in HOUSE}).prepare()  # raises CycleError, which names the circle
    TopologicalSorter(
        {layer: {part(m) for name in HOUSE if part(name) == layer for m in ours(name)} - {layer} for layer in LAYER_OF}
    ).prepare()


def test_training_and_prediction_do_not_know_each_other():
    train, predict = ours("medr1kit.training.train"), ours("medr1kit.models.predict")
    assert "medr1kit.models.predict" not in train
    assert not {"medr1kit.training.train", "medr1kit.training.recording"} & predict


@pytest.mark.parametrize("name", [name for name in HOUSE if part(name) in TORCH_FREE])
def test_the_torch_free_half_never_names_torch(name):
    assert not {module.split(".")[0] for module in imported(name)} & TORCH


def test_the_torch_free_half_loads_no_torch():
    names = [name for name in HOUSE if part(name) in TORCH_FREE]
    loaded = fresh(
        "import importlib, json, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"print(json.dumps([sorted(set({names!r}) & set(sys.modules)), sorted({TORCH!r} & set(sys.modules))]))"
    )
    assert loaded == [sorted(names), []]


# --- the front door ---------------------------------------------------------------------------------------------------


def test_importing_the_package_loads_nothing_heavy():
    heavy = {*TORCH, "pandas", "numpy", "matplotlib", "seaborn", "scipy", "statsmodels", "datasets", "PIL", "skimage"}
    code = f"import json, sys, medr1kit; print(json.dumps(sorted({heavy!r} & set(sys.modules))))"
    assert fresh(code) == []


def test_opening_the_data_panel_loads_no_more_than_it_shows():
    heavy = {"scipy.stats", "scipy.sparse", "imagehash"}  # an audit needs them, its flags do not
    code = f"import json, sys, medr1kit as mk; mk.explore_data; print(json.dumps(sorted({heavy!r} & set(sys.modules))))"
    assert fresh(code) == []


def test_every_public_name_is_there_and_none_needs_torch():
    missing, loaded = fresh(
        "import json, sys, medr1kit as mk\n"
        "missing = [name for name in mk.__all__ if getattr(mk, name, None) is None]\n"
        f"print(json.dumps([missing, sorted({TORCH!r} & set(sys.modules))]))"
    )
    assert missing == []
    assert loaded == []
    assert mk.__all__ == sorted(set(mk.__all__)) == dir(mk)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'medr1kit' has no attribute 'predictions'"):
        mk.predictions  # noqa: B018


def test_no_room_is_named_as_a_public_function_is():
    rooms = {part(name) for name in HOUSE}
    assert not rooms & set(mk.__all__), "`import medr1kit.room as r` would give the function"


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_one_idea(name):
    lines = len(MODULES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST, f"{name} has {lines} lines; cut it in two"


# Places that mean something on one machine or network only. The patterns do not match their own spelling.
FOREIGN = re.compile(
    rb"(?i:(?:pypi|pythonhosted|anaconda|npmjs|rubygems|crates|docker|ghcr|quay|jsdelivr|unpkg)\.(?:org|com|net|io)\b)"
    rb"|(?i:download\.pytorch\.org|proxy\.golang\.org)"
    rb"|(?i:(?:index-url|find-links|trusted-host)[\s=\"']+[\w/])"
    rb"|(?i:https?://[^\s\"'<>]+\.(?:whl|zip|tgz|gz|tar|safetensors|parquet|exe|sh)\b)"
    rb"|https?://(?:localhost|\d+\.\d+\.\d+\.\d+)"
    rb"|(?<![\w.~$}/-])/(?:home|Users|root|work|mnt|scratch)/[\w.]"
    rb"|[A-Z]:\\+Users\\"
)


def test_the_search_for_foreign_places_finds_them():
    for place in (
        *(
            "/home/" + "ann/data",
            "'/work/" + "ann'",
            "path=/root/" + ".cache",
            "/Users/" + "ann",
            "C:\\" + "Users\\ann",
        ),
        *("https://py" + "pi.org/simple", "--index-url=" + "x.org", "files.python" + "hosted.org"),
        *("https://" + "x.org/a.whl", "http://" + "10.0.0.1:8080", "http://" + "localhost:99"),
    ):
        assert FOREIGN.search(place.encode()), place
    for fine in (
        "runs/home/x",
        "~/work/x",
        "https://arxiv.org/abs/2503.13939",
        "work/main",
        "FOLDER/home/",
        "$HOME/work/a",
    ):
        assert not FOREIGN.search(fine.encode()), fine


def test_no_tracked_file_names_a_registry_or_a_place_on_one_machine():
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    tracked = [ROOT / name for name in listed.decode().split("\0") if name]
    assert tracked
    found = [
        f"{path.relative_to(ROOT)}: {match.group().decode(errors='replace')}"
        for path in tracked
        if path.is_file()
        for match in FOREIGN.finditer(path.read_bytes())
    ]
    assert found == []


def test_torchvision_is_absent_or_fits_the_installed_torch():
    # A torchvision built for another torch breaks transformers, which imports it wherever it is installed.
    if importlib.util.find_spec("torchvision") is None:
        return
    assert fresh("import torch, torchvision, torchvision.ops; print(1)") == 1
