"""A training that is watched and steered in its own cell: clicks arrive while it runs, in JupyterLab and in Voila."""

from __future__ import annotations

import json

import scenes
import serving
from playwright.sync_api import Page, expect
from serving import opened, run_all

import medr1kit as mk


def step_shown(page: Page) -> int:
    return int(page.locator('[data-mk="step"]').first.inner_text().split()[1])


def standing(page: Page):
    return page.locator(".mk-about .mk-badge").first


def pause_step_and_stop(page: Page) -> int:
    """Click through a training; returns the step at which it was stopped."""
    pause, one, stop = (page.locator(f"button.mk-{name}") for name in ("pause", "one", "stop"))
    expect(page.locator('[data-mk="completions"] tbody tr')).to_have_count(4, timeout=120_000)
    expect(one).to_be_disabled()
    pause.click()
    expect(standing(page)).to_have_text("paused")
    at = step_shown(page)
    label = page.locator('[data-mk="label"]')
    expect(label).to_contain_text(f"step {at}, group")
    page.wait_for_timeout(2000)  # several steps, were it running
    assert step_shown(page) == at < scenes.LIVE_STEPS
    group = label.inner_text()
    page.locator("button.mk-next").click()
    expect(label).not_to_have_text(group)
    one.click()
    expect(page.locator('[data-mk="step"]').first).to_have_text(f"step {at + 1} of {scenes.LIVE_STEPS}")
    expect(standing(page)).to_have_text("paused")
    pause.click()
    expect(standing(page)).to_have_text("running")
    stop.click()
    return at + 1


def check_kept(folder, least: int) -> None:
    run = mk.load_run(folder)
    assert run.config["stopped"]["of"] == scenes.LIVE_STEPS
    assert least <= run.config["stopped"]["step"] < scenes.LIVE_STEPS
    assert run.labels["method"] == "grpo" and run.labels["step"] == run.config["summary"]["steps"]
    assert run.rollouts["step"].max() == len(run.metrics) == run.labels["step"]
    assert (run.path / "adapter" / "adapter_model.safetensors").stat().st_size > 0


def test_a_training_is_paused_stepped_and_stopped_in_its_cell_in_jupyterlab(page, lab):
    path = serving.write_notebook(lab[0] / "live.ipynb", [scenes.LIVE, "print('next cell', run.labels['step'])"])
    opened(page, lab, path.name)
    run_all(page, wait=False)
    stopped = pause_step_and_stop(page)
    expect(page.locator(".jp-OutputArea").last).to_contain_text("next cell", timeout=60_000)
    check_kept(lab[0] / "live", stopped)
    expect(page.locator(".jupyter-widgets.mk-panel")).to_have_count(0)  # plain HTML is left
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    saved = json.loads(path.read_text())
    [left] = [
        o["data"] for o in saved["cells"][0]["outputs"] if "data-mk" in "".join(o.get("data", {}).get("text/html", ""))
    ]
    assert set(left) == {"text/html", "text/plain"} and "stopped and kept" in "".join(left["text/html"])


def test_interrupting_the_kernel_stops_and_keeps(page, lab):
    path = serving.write_notebook(lab[0] / "interrupted.ipynb", [scenes.LIVE, "print('next cell', run.labels['step'])"])
    opened(page, lab, path.name)
    run_all(page, wait=False)
    expect(page.locator('[data-mk="completions"] tbody tr')).to_have_count(4, timeout=120_000)
    page.evaluate("() => jupyterapp.commands.execute('notebook:interrupt-kernel')")
    expect(page.locator(".jp-OutputArea").last).to_contain_text("next cell", timeout=60_000)
    check_kept(lab[0] / "live", 1)


def test_a_training_that_a_button_starts_is_paused_stepped_and_stopped_in_voila(show, served):
    page = show(scenes.LIVE_BUTTON)
    page.get_by_role("button", name="train").click()
    expect(page.locator("button.mk-pause")).to_be_visible(timeout=60_000)
    stopped = pause_step_and_stop(page)
    expect(page.get_by_text("trained until step")).to_be_visible(timeout=60_000)
    check_kept(served[0] / "live", stopped)
