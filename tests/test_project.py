"""The project's own files: set-up, environments and the commands the README promises."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())
PINS = {
    canonicalize_name(name): version
    for name, version in (line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
}


def test_environment_yml_installs_this_project_and_names_no_second_list_of_packages():
    assert set(CONDA) == {"name", "channels", "dependencies"}
    plain = [entry for entry in CONDA["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict)]
    assert [entry.split()[0] for entry in plain] == ["python", "pip"]
    assert pip[0] == "-c constraints.txt" and len(pip) == 2
    (extras,) = re.findall(r'^-e "?\.\[([\w,]+)\]"?$', pip[1])
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def test_environment_yml_and_pyproject_agree_on_python():
    (python,) = [entry for entry in CONDA["dependencies"] if isinstance(entry, str) and entry.startswith("python")]
    conda = SpecifierSet(python.removeprefix("python").strip())
    ours = SpecifierSet(PROJECT["requires-python"])
    for minor in range(8, 16):
        if f"3.{minor}.0" in conda:
            assert f"3.{minor}.0" in ours
    assert "3.10.9" not in conda and "3.11.0" in conda


@pytest.mark.parametrize("text", [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]])
def test_every_dependency_is_bounded_and_its_pin_is_in_range(text):
    requirement = Requirement(text)
    assert requirement.specifier, f"{text} has no bound"
    assert PINS[canonicalize_name(requirement.name)] in requirement.specifier


def test_torch_is_pinned_to_the_version_that_comes_for_cpu_and_cuda():
    (torch,) = [text for text in PROJECT["dependencies"] if text.startswith("torch")]
    assert torch.replace(" ", "") == "torch>=2.6,<2.14" and PINS["torch"] == "2.13.0"
    assert not any(name.startswith(("torchvision", "nvidia", "triton")) for name in PINS)


def test_what_the_real_tests_fetch_is_pinned_fits_torch_and_stays_out_of_the_environment():
    (line,) = re.findall(r"pip install.* dashscope.*", (ROOT / "Makefile").read_text())
    fetched = dict(re.findall(r"(\w+)==([\d.]+)", line))
    assert set(fetched) == {"dashscope", "torchvision"} and "--no-deps --target .real " in line
    assert fetched["torchvision"] == f"0.{int(PINS['torch'].split('.')[1]) + 15}.0"  # 2.13 and 0.28, as ever since 2.0


def test_the_readme_s_commands_exist():
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([\w-]+)", readme, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    for path in re.findall(r"\]\((notebooks/[^)]+)\)", readme):
        assert (ROOT / path).is_file()


def test_the_readme_s_tree_names_every_module():
    tree = (ROOT / "README.md").read_text().split("## What is where")[1]
    for module in (ROOT / "medr1kit").iterdir():
        if not module.name.startswith("__"):
            assert re.search(rf"^  {re.escape(module.name)}", tree, re.MULTILINE), module.name


def test_no_tracked_notebook_or_module_waits_for_the_network():
    """Names of hub functions that would download at import or run time; load_dataset is called for a hub id alone."""
    for path in (ROOT / "medr1kit").rglob("*.py"):
        assert not re.search(r"snapshot_download|hf_hub_download|urlopen|requests\.get", path.read_text()), path


def test_no_function_in_a_test_file_goes_uncalled():
    """A test that lost its name is never collected and cannot fail; so is a helper that nobody calls any more."""
    nodes = {path: list(ast.walk(ast.parse(path.read_text()))) for path in (ROOT / "tests").rglob("*.py")}
    words = ("id", "attr", "arg")  # a name, something's attribute, an argument: pytest hands fixtures in by name
    used = {getattr(node, word, None) for found in nodes.values() for node in found for word in words}
    uncalled = [
        f"{path.name}: {function.name}"
        for path, found in nodes.items()
        if path.name.startswith("test_")
        for function in _functions(found)
        if not function.name.startswith("test_") and function.name not in used
    ]
    assert uncalled == []


def _functions(nodes):
    """All functions but methods, which others may call by protocol, and fixtures that need no call."""
    methods = {id(child) for node in nodes if isinstance(node, ast.ClassDef) for child in node.body}
    return [
        node
        for node in nodes
        if isinstance(node, ast.FunctionDef)
        and id(node) not in methods
        and not any("autouse" in ast.unparse(decorator) for decorator in node.decorator_list)
    ]
