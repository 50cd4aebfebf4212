"""Each widget in a page, as Voila serves it: a control is changed with the mouse or keys, and what is shown changes."""

import re

import scenes
from playwright.sync_api import Page, expect
from widget_fakes import predictions

from medr1kit.results.runs import RunWriter


def hook(page: Page, name: str):
    """A place in what a widget shows."""
    return page.locator(f'[data-mk="{name}"]')


def control(page: Page, name: str):
    """The field, list, handle or button of a control."""
    return (
        page.locator(f".mk-{name}")
        .locator("select, input, textarea, .noUi-handle")
        .or_(page.locator(f"button.mk-{name}"))
    )


def picture(page: Page, within: str = ".mk-panel") -> str:
    """What the first image within shows, as its bytes."""
    image = page.locator(f"{within} img").first
    expect(image).to_be_visible()
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    return image.get_attribute("src")


def test_inspector_steps_filters_searches_and_saves_with_a_note(show, served):
    page = show(scenes.INSPECT)
    asked = hook(page, "id")
    expect(hook(page, "how")).to_contain_text("that went from wrong to right")  # where there is something to see
    control(page, "number").fill("1")
    control(page, "number").press("Enter")
    expect(hook(page, "how")).to_have_count(0)
    first, drawn = asked.inner_text(), picture(page)
    control(page, "next").click()
    expect(asked).not_to_have_text(first)
    second = asked.inner_text()
    assert picture(page) != drawn
    expect(control(page, "number")).to_have_value("2")
    control(page, "previous").click()
    expect(asked).to_have_text(first)
    assert picture(page) == drawn

    control(page, "slider").press("ArrowRight")
    expect(asked).to_have_text(second)
    control(page, "note").fill("a note of mine")
    control(page, "number").fill("7")
    control(page, "number").press("Enter")
    expect(asked).not_to_have_text(second)
    expect(control(page, "note")).to_have_value("")

    control(page, "kind").select_option(label="fixed")
    badges = page.locator(".mk-cell .mk-badge").filter(has_text=re.compile("^(right|wrong)$"))
    expect(badges).to_have_text(["wrong", "right"])
    control(page, "modality").select_option(label="MRI")
    expect(asked).to_contain_text("MRI")
    control(page, "search").fill("no such words")
    expect(hook(page, "none")).to_be_visible()
    control(page, "search").fill("")
    control(page, "modality").select_option(label="all")
    control(page, "kind").select_option(label="with a note")
    expect(asked).to_have_text(second)
    expect(control(page, "note")).to_have_value("a note of mine")

    control(page, "file").fill("kept.csv")
    control(page, "save").click()
    expect(hook(page, "said")).to_contain_text("saved 1 questions to kept.csv")
    assert "a note of mine" in (served[0] / "kept.csv").read_text(encoding="utf-8-sig")
    control(page, "save").click()
    expect(hook(page, "said")).to_contain_text("exists")


def test_a_thought_is_edited_and_replaced_and_the_letters_move(show):
    page = show(scenes.THOUGHTS)
    rows, thought = hook(page, "chances").locator("tbody tr"), control(page, "thought")
    own, gold = thought.input_value(), rows.filter(has_text="gold")
    assert "in the liver" in own
    expect(rows).to_have_count(4)
    expect(rows.first.locator("td").nth(2)).not_to_contain_text("points")
    control(page, "put-empty").click()
    expect(thought).to_have_value("")
    expect(rows.locator("td:nth-child(3)")).to_contain_text(["25.0 %"] * 4)
    control(page, "put-misled").press("Enter")  # it names the liver once, and once another option
    expect(gold.locator("td").nth(2)).to_contain_text("45.5 % -40.9 points")
    expect(thought).to_have_value(re.compile("In the liver: .* So the answer is (?!liver)"))
    wide = gold.locator(".mk-bar").last.bounding_box()["width"]
    thought.fill("no such thing")
    expect(gold.locator("td").nth(2)).to_contain_text("25.0 %")
    assert gold.locator(".mk-bar").last.bounding_box()["width"] < 0.6 * wide
    control(page, "next").click()
    expect(thought).not_to_have_value("no such thing")
    control(page, "previous").click()
    expect(thought).to_have_value("no such thing")
    control(page, "put-own").click()
    expect(thought).to_have_value(own)


def test_a_run_is_walked_by_its_slider_and_its_groups(show):
    page = show(scenes.RUN)
    asked, reward = hook(page, "id"), page.get_by_alt_text("mean reward")
    last = asked.inner_text()
    expect(reward).to_have_attribute("alt", re.compile("at step 6"))
    drawn = picture(page, ".mk-curves")
    control(page, "step").press("ArrowLeft")
    expect(reward).to_have_attribute("alt", re.compile("at step 5"))
    expect(asked).not_to_have_text(last)
    assert picture(page, ".mk-curves") != drawn
    n = page.locator(".mk-curve").count()
    control(page, "extra").select_option(label="reward_std")
    expect(page.get_by_alt_text("reward_std at step 5")).to_be_visible()
    assert page.locator(".mk-curve").count() == n


def test_a_run_that_grows_is_followed_to_its_end(show, served):
    with RunWriter(served[0] / "growing", {}) as run:

        def log(step):
            questions = predictions([f"<think>said at {step}</think><answer>B</answer>"] * 2).to_dict("records")
            for answer in questions:
                run.rollout_rows(scenes.group(step, answer))
            run.metrics_row({"step": step, "reward": step / 10})

        log(1)
        page = show(scenes.RUN.replace('"ct")', '"growing"); panel.every = 0.2'))
        about, shown = page.locator(".mk-about"), hook(page, "completions").last
        expect(about).to_contain_text("not ended 1 steps logged")
        log(2)
        control(page, "refresh").click()
        expect(about).to_contain_text("2 steps logged")
        expect(shown).to_contain_text("said at 2")
        control(page, "group").select_option(label="2 of 2: q1, 1 of 4 right")
        expect(hook(page, "question")).to_contain_text("picture 1")
        control(page, "follow").check()
        log(3)
        expect(about).to_contain_text("3 steps logged")
        expect(shown).to_contain_text("said at 3")
        expect(page.get_by_alt_text("mean reward at step 3")).to_be_visible()
        control(page, "step").press("ArrowLeft")
        expect(shown).to_contain_text("said at 2")
        log(4)  # a reader who looks at an earlier step is left there
        expect(about).to_contain_text("4 steps logged")
        expect(shown).to_contain_text("said at 2")
        run.update_config(summary={"steps": 4})
    expect(about).not_to_contain_text("not ended")
    expect(control(page, "follow")).not_to_be_checked()


def test_reward_lab_pays_for_what_is_typed(show):
    page = show(scenes.LAB)
    accuracy = hook(page, "rewards").locator("tbody tr").first.locator("td").nth(1)
    expect(accuracy).to_have_text("1")
    control(page, "text").fill("<think>No.</think><answer>C</answer>")
    expect(accuracy).to_have_text("0")
    expect(control(page, "example")).to_have_value("(your own)")
    control(page, "gold").select_option(label="C) stone")
    expect(accuracy).to_have_text("1")
    control(page, "example").select_option(label="no tags")
    expect(control(page, "text")).to_have_value("The answer is C.")
    expect(accuracy).to_have_text("0")
    control(page, "format").select_option(label="no-think")
    expect(hook(page, "options")).to_contain_text("no-think")


def test_a_cell_of_the_transfer_map_opens_by_click_list_and_arrow(show):
    page = show(scenes.TRANSFER)
    cells, asked = page.locator("button.mk-map-cell"), hook(page, "id")
    expect(cells).to_have_count(64)
    head = page.locator(".mk-cell.widget-html h4")
    expect(head).to_have_text("trained on CT, tested on CT")
    cells.nth(9).click()
    expect(head).to_have_text("trained on MRI, tested on MRI")
    expect(cells.nth(9)).to_have_text(re.compile(r"^\[.*\]$"))
    expect(control(page, "train")).to_have_value("MRI")
    expect(asked).to_contain_text("MRI")
    control(page, "right").click()
    expect(head).to_have_text("trained on MRI, tested on X-Ray")
    control(page, "test").select_option(label="CT")
    expect(head).to_have_text("trained on MRI, tested on CT")
    expect(asked).to_contain_text("CT")
    first = asked.inner_text()
    control(page, "next").click()
    expect(asked).not_to_have_text(first)
    control(page, "kind").select_option(label="fixed")
    expect(page.locator(".mk-answer")).to_contain_text("fixed: 1 of")
    before = cells.first.inner_text()
    control(page, "value").select_option(label="accuracy")
    expect(cells.first).not_to_have_text(before)
    control(page, "map-choice").select_option(label="grpo: no-think minus think-before, by modality (tiny)")
    expect(hook(page, "published-map")).to_be_visible()


def test_a_data_set_is_leafed_through_and_filtered(show):
    page = show(scenes.DATA)
    thumbs, asked = hook(page, "thumb"), hook(page, "id")
    expect(thumbs).to_have_count(12)
    first, drawn = asked.inner_text(), picture(page, ".mk-open")
    control(page, "page-after").click()
    expect(page.locator(".mk-thumbs")).to_contain_text("page 2 of 4")
    expect(asked).not_to_have_text(first)
    assert picture(page, ".mk-open") != drawn
    control(page, "modality").select_option(label="OCT")
    expect(thumbs).to_have_count(5)
    expect(asked).to_contain_text("OCT")
    second = asked.inner_text()
    control(page, "next").click()
    expect(asked).not_to_have_text(second)
    control(page, "text").fill("no such words")
    expect(hook(page, "none")).to_be_visible()
