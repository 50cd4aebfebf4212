"""The panel of a training in its cell, and the clicks that reach it while the cell runs."""

import asyncio
import os
from types import SimpleNamespace

import pytest
from jupyter_client.manager import start_new_kernel
from jupyter_client.session import Session
from widget_fakes import HOSTILE, control, safe

from medr1kit.views.widgets.clicks import clicks_heard, kernel_of
from medr1kit.views.widgets.live import LivePanel
from medr1kit.vqa import DataError

REWARDS = ("accuracy_reward", "format_reward")


def rows(step, *groups, text="said"):
    """Completions of a step: of each group the pay for accuracy; form is always right, and one in four is cut off."""
    for number, pays in enumerate(groups):
        mean = sum(pays) / len(pays)
        for rollout, pay in enumerate(pays):
            row = {"step": step, "id": f"CT-train-0-{number}-AI", "rollout": rollout, "question": f"What is {number}?"}
            row |= {"options": ["liver", "brain"], "answer": "B", "modality": "CT", "task": "Anatomy Identification"}
            row |= {"text": text, "predicted": "B" if pay else "A", "accuracy_reward": pay, "format_reward": 1.0}
            yield row | {"advantage": pay - mean, "n_tokens": 9, "truncated": rollout == 3, "used": True}


def told(panel, step, *groups, **changes):
    panel.of = 50
    panel.paid(list(rows(step, *groups, **changes)), REWARDS)
    panel.fill()
    return panel


# --- what it shows ----------------------------------------------------------------------------------------------------


def test_the_first_group_that_teaches_is_opened_and_others_are_leafed_to():
    panel = told(LivePanel(), 1, [1.0, 1.0], [1.0, 0.0], [0.0, 0.0])
    seen = safe(panel.static())
    assert "What is 1?" in seen.texts["question"][0] and "2 of 3 groups teach nothing" in seen.all
    assert panel.group == 1
    panel.next_group()
    assert "What is 2?" in panel.static() and "nothing is learned from this group" in panel.static()
    panel.next_group(), panel.previous_group(), panel.previous_group()
    assert panel.group == 1


def test_a_bar_is_the_pay_and_a_line_the_mean_of_the_group():
    page = told(LivePanel(), 1, [1.0, 0.0, 0.0, 0.0]).static()  # summed: 2, 1, 1, 1, and 1.25 on average
    assert page.count("--mk-paid:100%;--mk-mean:62%") == 1 and page.count("--mk-paid:50%;--mk-mean:62%") == 3
    assert "mean 1.25, from 1 to 2" in page


def test_a_text_has_the_ground_of_its_advantage():
    page = told(LivePanel(), 1, [1.0, 0.0, 0.0, 0.0]).static()
    assert page.count('class="mk-up" style="--mk-push:20%"') == 1  # 10 + 14 x 0.75
    assert page.count('class="mk-down" style="--mk-push:14%"') == 3  # 10 + 14 x 0.25
    assert 'class="mk-up"' not in told(LivePanel(), 1, [1.0, 1.0]).static()


def test_the_curve_is_the_mean_pay_of_each_step():
    panel = told(told(LivePanel(), 1, [0.0, 0.0]), 2, [1.0, 0.0])
    assert 'alt="mean pay of a step at step 2:  1.5"' in panel.static() and panel._paid == {1: 1.0, 2: 1.5}


def test_completions_that_were_replaced_are_shown_and_not_counted():
    panel = LivePanel()
    replaced = [row | {"used": False, "advantage": 0.0} for row in rows(1, [0.0, 0.0])]
    panel.paid([*rows(1, [1.0, 0.0]), *replaced], REWARDS)
    panel.next_group()
    assert "replaced by dynamic sampling" in panel.static() and "at step 1:  1.5" in panel.static()


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_is_shown_as_text(kind):
    panel = told(LivePanel(), 1, [1.0, 0.0], text=HOSTILE[kind].replace("\ud800", "?"))
    safe(panel.static())
    panel.root  # noqa: B018 - builds it
    safe(control(panel, "group").value)


def test_before_the_first_completions_there_is_a_panel():
    panel = LivePanel()
    panel.root, panel.next_group()
    assert "being sampled" in safe(panel.static()).all


# --- what its buttons do ----------------------------------------------------------------------------------------------


def test_a_paused_training_waits_takes_single_steps_and_goes_on():
    panel = told(LivePanel(), 1, [1.0, 0.0])
    panel.root  # noqa: B018
    assert not panel.waits and control(panel, "one").disabled
    control(panel, "pause").click()
    assert panel.waits and control(panel, "pause").description == "go on" and not control(panel, "one").disabled
    assert "pauses after this step" in panel.static()
    panel.end_step(1)
    panel.change(waiting=True)
    assert "step 1 of 50, paused" in panel.summary()
    control(panel, "one").click()
    assert not panel.waits
    panel.end_step(2)
    assert panel.waits
    control(panel, "one").click(), control(panel, "pause").click()
    assert not panel.waits and not panel.paused
    panel.one_step()  # of a running training: it only pauses
    assert panel.waits


def test_stopping_ends_a_pause_and_leaves_no_button_to_press():
    panel = told(LivePanel(), 1, [1.0, 0.0])
    panel.root, panel.pause()
    control(panel, "stop").click()
    assert not panel.waits and panel.stopped and "stops after this step" in panel.static()
    assert all(control(panel, hook).disabled for hook in ("pause", "one", "stop"))


@pytest.mark.parametrize(
    ("step", "stopped", "said"),
    [(50, False, "ended"), (50, True, "ended"), (7, True, "stopped and kept"), (7, False, "broken off")],
)
def test_afterwards_it_says_how_the_training_ended(step, stopped, said):
    panel = told(LivePanel(), 7, [1.0, 0.0])
    panel.change(step=step, stopped=stopped, ended=True)
    assert panel.summary() == f"training: step {step} of 50, {said}" and said in safe(panel.static()).all


# --- clicks while a cell runs -----------------------------------------------------------------------------------------


class Stream:
    """What a kernel reads messages from: those in ``sent`` have arrived."""

    def __init__(self, usual):
        self.sent, self._recv_callback = [], usual

    def on_recv(self, callback, copy):
        self._recv_callback = callback

    def flush(self):
        while self.sent:
            self._recv_callback(self.sent.pop(0))


def test_clicks_on_the_panel_are_handled_at_once_and_the_rest_waits_in_its_order():
    late, heard, session = [], [], Session(key=b"secret")
    handlers = {"comm_msg": lambda stream, sender, message: heard.append(message["content"])}
    kernel = SimpleNamespace(session=session, shell_handlers=handlers, shell_stream=Stream(late.append))
    panel = LivePanel()
    panel.root  # noqa: B018

    def send(kind, **content):
        frames = session.serialize(session.msg(kind, content), ident=b"page")
        kernel.shell_stream.sent.append([SimpleNamespace(bytes=part, buffer=part) for part in frames])
        return kernel.shell_stream.sent[-1]

    async def cell():
        with clicks_heard(kernel, panel) as hear:
            hear()
            first = send("execute_request", code="the next cell")
            send("comm_msg", comm_id=control(panel, "stop").model_id, data={})
            other = send("comm_msg", comm_id="of another panel", data={})
            last = send("execute_request", code="the one after it")
            hear()
            assert [content["comm_id"] for content in heard] == [control(panel, "stop").model_id] and late == []
        await asyncio.sleep(0.01)
        assert late == [first, other, last] and kernel.shell_stream._recv_callback == late.append

    asyncio.run(cell())


def test_a_real_kernel_hears_clicks_while_its_cell_runs():
    cell = """
import time
from medr1kit.views.widgets.clicks import clicks_heard, kernel_of
from medr1kit.views.widgets.live import LivePanel
panel = LivePanel()
with panel.shown(), clicks_heard(kernel_of("live=True"), panel) as hear:
    while not panel.stopped:
        hear()
        time.sleep(0.01)
print("heard")
"""
    manager, client = start_new_kernel(kernel_name="python3", env=dict(os.environ))
    try:
        client.execute(cell)
        client.execute("print('then')")
        buttons, printed, last = {}, "", {}
        while "then" not in printed:
            message = client.get_iopub_msg(timeout=60)
            content = message["content"]
            assert message["msg_type"] != "error", content
            if message["msg_type"] == "comm_open":
                state = content["data"]["state"]
                buttons[state.get("description")] = content["comm_id"]
            elif message["msg_type"] == "display_data":
                for name in ("pause", "stop and keep"):
                    click = {"comm_id": buttons[name], "data": {"method": "custom", "content": {"event": "click"}}}
                    client.shell_channel.send(client.session.msg("comm_msg", click))
            elif message["msg_type"] == "update_display_data":
                last = content["data"]
            elif message["msg_type"] == "stream":
                printed += content["text"]
        assert printed == "heard\nthen\n" and set(last) == {"text/plain", "text/html"}
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def test_without_a_cell_it_is_refused():
    with pytest.raises(DataError, match="live=True needs the cell of a notebook, and this is none; leave it out"):
        kernel_of("live=True")
