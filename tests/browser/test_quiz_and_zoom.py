"""In a browser: beat the machine, by keys and by clicks; images that enlarge, everywhere; and gold that hides."""

import io
import re

import datasets
import scenes
from errors_fakes import answer, says, table
from PIL import Image
from playwright.sync_api import Page, expect
from test_widgets_change import control, hook

import medr1kit as mk
from medr1kit.data.images import MedicalImage
from medr1kit.views.page import write_report


def test_a_quiz_is_played_by_keys_alone_and_ends_in_the_result(show):
    page = show(scenes.QUIZ)
    page.locator("button.mk-option-A").focus()
    for number in (1, 2, 3):
        expect(hook(page, "place")).to_have_text(f"question {number} of 3")
        expect(hook(page, "gold")).to_have_count(0)
        page.keyboard.press("Enter" if number == 1 else "ab"[number % 2])  # Enter presses the button that has the focus
        expect(hook(page, "gold")).to_have_count(1)
        expect(hook(page, "verdict")).to_have_text(re.compile("^(right|wrong)$"))
        page.keyboard.press("c")  # a second answer does not count
        page.keyboard.press("Enter")
    expect(hook(page, "result").locator("tbody td:first-child")).to_have_text(
        ["you", "the model", "a lookup without eyes", "chance"]
    )
    missed = hook(page, "missed").count()
    expect(hook(page, "result").locator("tbody tr").first).to_contain_text(f"{3 - missed} of 3")
    control(page, "again").click()
    expect(hook(page, "place")).to_have_text("question 1 of 3")


def test_a_quiz_is_played_by_clicks_and_the_keys_go_on_from_there(show):
    page = show(scenes.QUIZ)
    assert not re.search(r'✓|mk="gold"|-test-\d', page.locator(".mk-panel").inner_html()), "nothing tells the answer"
    control(page, "option-B").click()
    expect(control(page, "option-A")).to_be_disabled()
    expect(page.locator(".mk-panel")).to_be_focused()
    page.keyboard.press("Enter")
    expect(hook(page, "place")).to_have_text("question 2 of 3")
    hook(page, "question").click()  # anywhere in the panel
    page.keyboard.press("D")
    expect(hook(page, "gold")).to_have_count(1)
    control(page, "next").click()
    expect(hook(page, "place")).to_have_text("question 3 of 3")


def zoomed(page: Page):
    return page.locator("dialog.mk-zoom")


def test_an_image_enlarges_by_click_and_by_key_and_the_focus_comes_back(show):
    page = show(scenes.INSPECT)
    small = page.locator(".mk-main img.mk-image")
    small.click()
    check_zoom(page)
    zoomed(page).click()
    expect(zoomed(page)).to_have_count(0)
    expect(small).to_be_focused()
    expect(small).to_have_attribute("role", "button")
    for close in ("Enter", "Space", "Escape"):
        page.keyboard.press("Enter")
        expect(zoomed(page)).to_be_visible()
        page.keyboard.press(close)
        expect(zoomed(page)).to_have_count(0)
        expect(small).to_be_focused()


def check_zoom(page: Page) -> None:
    """The picture fills the window in one direction, in its own shape."""
    expect(zoomed(page)).to_be_visible()
    [box, window] = zoomed(page).evaluate("e => [e.getBoundingClientRect().toJSON(), [innerWidth, innerHeight]]")
    assert [box["width"], box["height"]] == window
    image = zoomed(page).locator("img")
    assert image.evaluate("e => getComputedStyle(e).objectFit") == "contain"
    assert image.evaluate("e => [e.clientWidth, e.clientHeight]") == window


def film(n: int) -> datasets.Dataset:
    """Portrait films, loaded as Med-R1 does: square."""
    file = io.BytesIO()
    Image.effect_noise((820, 902), 40).save(file, "PNG")
    rows = {"id": [f"q{k}" for k in range(n)], "image": [{"bytes": file.getvalue(), "path": "film.png"}] * n}
    features = {"id": datasets.Value("string"), "image": MedicalImage(size=384)}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(features))


def test_a_portrait_film_enlarges_unsquashed_on_a_worksheet_and_in_a_report(page, tmp_path):
    preds = table(*(answer(n, says("B"), image_id="film.png") for n in range(3)))
    preds.to_parquet(tmp_path / "predictions.parquet", index=False)
    sheet = mk.export_worksheet(mk.errors(preds), tmp_path / "sheet.html", data=film(3))
    report = write_report(tmp_path / "predictions.parquet", data=film(3))
    for path in (sheet, report):
        page.goto(path.as_uri())
        small = page.locator("#reader .stage img.mk-image")
        width, height = small.evaluate("e => [e.clientWidth, e.clientHeight]")
        assert abs(width / height - 820 / 902) < 0.01 and height <= 226
        small.focus()
        page.keyboard.press("Enter")
        check_zoom(page)
        assert zoomed(page).locator("img").evaluate("e => [e.naturalWidth, e.naturalHeight]") == [820, 902]
        page.keyboard.press("ArrowRight")  # the page behind does not hear it
        page.keyboard.press("Escape")
        expect(small).to_be_focused()
        expect(page.locator("#reader [data-mk=number]")).to_have_value("1")
        page.keyboard.press("ArrowRight")  # and from an image the arrows go on
        expect(page.locator("#reader [data-mk=number]")).to_have_value("2")


def test_gold_is_hidden_and_revealed_in_two_panels(show):
    for scene in (scenes.INSPECT, scenes.DATA):
        page = show(scene)
        expect(hook(page, "gold")).to_have_count(1)
        page.locator(".mk-hide input").check()
        expect(hook(page, "gold")).to_have_count(0)
        control(page, "reveal").click()
        expect(hook(page, "gold")).to_have_count(1)
        control(page, "next").click()
        expect(hook(page, "gold")).to_have_count(0)
