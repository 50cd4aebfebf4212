"""The report in a browser, from a file: with the keyboard alone, without a network, and with texts that are hostile."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect
from report_fakes import TEXTS, hostile_answers, small_study, write_run

from medr1kit.views.page import write_report
from medr1kit.views.page.reader import sample_ids
from medr1kit.views.widgets.inspector import inspect_outputs

RIGHT = {"fixed": (0, 1), "broken": (1, 0), "both wrong": (0, 0), "both right": (1, 1)}


def at(page: Page, hook: str):
    return page.locator(f"[data-mk='{hook}']").first


def write(frame, folder, **chosen):
    frame.to_parquet(folder / "predictions.parquet", index=False)
    return write_report(folder / "predictions.parquet", **chosen).as_uri()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write(small_study(), tmp_path_factory.mktemp("study"), questions=12)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    return write(hostile_answers(), tmp_path_factory.mktemp("hostile"))


def column_of_sample(name: str) -> list[str]:
    rows = small_study().drop_duplicates("id").set_index("id")
    return rows.loc[sample_ids(small_study(), 12, seed=0), name].tolist()


def column(page: Page, number: int) -> list[str]:
    return page.locator(f"#scores [data-table]:not([hidden]) tbody tr:visible td:nth-child({number})").all_inner_texts()


def test_scores_sort_by_their_headings_and_filter(page, study):
    page.goto(study)
    heading = page.get_by_role("button", name="accuracy")
    heading.focus()
    page.keyboard.press("Enter")
    shares = [float(text.split()[0]) for text in column(page, 4)]
    assert shares == sorted(shares) and len(shares) == 6
    assert page.locator("#scores [data-table]:not([hidden]) th[aria-sort]").get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")
    assert column(page, 4)[0] == f"{max(shares):.1f} %"
    assert page.locator("th[aria-sort='descending']").count() == 1
    page.get_by_role("button", name="trained on").press("Enter")
    assert column(page, 3)[-2:] == ["–", "–"], "a dash stays last"
    at(page, "filter").fill("GRPO oct")
    expect(at(page, "filtered")).to_have_text("2 of 6 rows")
    at(page, "tested").select_option("by modality")
    expect(at(page, "filtered")).to_have_text("8 of 18 rows")


def test_a_cell_opens_and_its_examples_open_in_the_reader_by_keys_alone(page, study):
    page.goto(study)
    page.locator("#maps button.cell").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(at(page, "cell").locator("h4")).to_have_text("trained on OCT, tested on OCT")
    expect(page.locator("button.cell[aria-pressed=true]:visible")).to_have_count(1)
    expect(page.locator("button.cell[aria-pressed=true]:visible")).to_be_focused()
    examples = at(page, "examples").locator("button:enabled").first
    kind = examples.get_attribute("data-mk")
    n = int(examples.inner_text().split("(")[1].rstrip(")"))
    examples.press("Enter")
    expect(at(page, "status")).to_contain_text(f"{n} of 12 questions")
    expect(at(page, "kind")).to_have_value(kind)
    expect(at(page, "next")).to_be_visible()
    heads = page.locator("#reader .mk-cell h4")
    expect(heads).to_have_text(["base · think-before", "trained on OCT · grpo · think-before"])
    verdicts = page.locator("#reader [data-mk=verdict]")
    for place, right in enumerate(RIGHT[kind]):
        expect(verdicts.nth(place)).to_contain_text("right" if right else re.compile("wrong|not read"))
    assert "OCT" in page.locator("#reader [data-mk=id]").inner_text()


def test_a_cell_without_a_base_opens_its_own_answers_alone(page, tmp_path):
    preds = small_study()
    page.goto(write(preds[~(preds["method"].eq("base") & preds["modality"].eq("OCT"))], tmp_path))
    page.locator("#maps button.cell:visible[data-cell='CT → OCT']").click()
    expect(at(page, "cell").locator("h4")).to_have_text("trained on CT, tested on OCT")
    at(page, "all").click()
    expect(page.locator("#reader .mk-cell h4")).to_have_text(["trained on CT · grpo · think-before"])
    expect(at(page, "second").locator("option:checked")).to_have_text("none")
    expect(at(page, "kind").locator("option")).to_have_text(["all", "right", "wrong", "malformed", "with a note"])


def test_maps_change_and_draw_accuracies(page, study):
    page.goto(study)
    shown = page.locator("[data-map]:visible h4").first
    expect(shown).to_have_text("grpo: think-before minus base, by modality (tiny)")
    at(page, "map").select_option("2")
    expect(shown).to_have_text("grpo: no-think minus think-before, by modality (tiny)")
    expect(page.locator("[data-mk=published-map]:visible")).to_have_count(1)
    at(page, "draw").select_option("accuracy")
    first = page.locator("[data-map]:visible button.cell:visible").first
    expect(first).to_have_text("–" if first.inner_text() == "–" else first.inner_text().replace("+", ""))
    assert not any("+" in text for text in page.locator("button.cell:visible").all_inner_texts())


def test_the_reader_turns_pages_filters_searches_and_keeps_notes(page, study):
    page.goto(study)
    number, question = at(page, "number"), page.locator("#reader [data-mk=question] [data-mk=question]")
    expect(page.locator("#reader img.mk-image")).to_have_count(1)
    expect(at(page, "sampled")).to_contain_text("It opens at a question chosen by rule: ")
    number.fill("1")
    number.press("Enter")
    page.locator("h1").click()
    page.keyboard.press("ArrowRight")
    expect(number).to_have_value("2")
    page.keyboard.press("ArrowLeft")
    expect(number).to_have_value("1")
    at(page, "next").press("Enter")
    expect(number).to_have_value("2")
    at(page, "note").fill("a faint ring")
    at(page, "note").press("ArrowLeft")
    expect(number).to_have_value("2")
    asked = question.inner_text()
    at(page, "kind").select_option("with a note")
    expect(at(page, "status")).to_contain_text("1 of 12 questions")
    expect(question).to_have_text(asked)
    at(page, "kind").select_option("all")
    at(page, "modality").select_option("MRI")
    some = f"{column_of_sample('modality').count('MRI')} of 12 questions"
    expect(at(page, "status")).to_contain_text(some)
    at(page, "search").fill("NO SUCH WORD")
    expect(page.locator("#reader")).to_contain_text("No question is left")
    at(page, "search").fill("</ANSWER>")
    expect(at(page, "status")).to_contain_text(some)
    at(page, "third").select_option("2")
    expect(page.locator("#reader .mk-cell h4")).to_have_count(3)
    at(page, "number").fill("1.5")
    at(page, "number").press("Enter")
    expect(number).to_have_value("1")
    page.reload()
    number.fill("2")
    number.press("Enter")
    expect(at(page, "note")).to_have_value("a faint ring")


@pytest.mark.parametrize("which", ["study", "hostile"])
def test_the_saved_selection_is_the_file_that_the_notebook_saves(page, which, request, tmp_path):
    page.goto(request.getfixturevalue(which))
    preds = small_study() if which == "study" else hostile_answers()
    ids = sample_ids(preds, 12 if which == "study" else 200, seed=0)
    panel = inspect_outputs(preds[preds["id"].isin(ids)])
    names = [one.name for one in panel.answers.answerers]
    for place, label in enumerate(("first", "second", "third")[: len(names)]):
        expect(at(page, label).locator("option")).to_have_count(len(names) + (place > 0))
        shown = int(at(page, label).input_value())
        panel.show(place, shown if shown >= 0 else None)
    at(page, "number").fill("2")
    at(page, "number").press("Enter")
    panel.go(2)
    for write_note in (at(page, "note").fill, panel.note):
        write_note('=cmd|"!"')
    with page.expect_download() as download:
        at(page, "save").click()
    download.value.save_as(tmp_path / "browser.csv")
    panel.export(tmp_path / "notebook.csv")
    assert download.value.suggested_filename == "selection.csv"
    assert (tmp_path / "browser.csv").read_bytes() == (tmp_path / "notebook.csv").read_bytes()


def test_hostile_texts_are_shown_and_do_nothing(page, hostile):
    page.goto(hostile)
    bold = page.locator("#reader b").filter(has_text="liver")
    for number in range(1, len(TEXTS) + 1):
        at(page, "number").fill(str(number))
        at(page, "number").press("Enter")
        expect(page.locator("#reader [data-mk=id]")).to_contain_text(f"q{number - 1} ")
        expect(page.locator("#reader [data-mk=options]")).to_contain_text("brain</script>")
        assert bold.count() == 0 and page.locator("#reader script").count() == 0
        assert page.locator("#reader img:not(.mk-image)").count() == 0
    at(page, "number").fill("1")
    at(page, "number").press("Enter")
    shown = page.locator("#reader .mk-text")
    expect(shown.first).to_contain_text("<script>alert(1)</script><img src=x onerror=alert(2)>")
    expect(shown.nth(1)).to_contain_text("[U+0000]<script>")
    at(page, "search").fill("right to left")
    expect(shown.filter(has_text="[U+202E]<script>")).to_have_count(1)
    assert page.locator("h4").filter(has_text="=1+1").count() == 1


def test_the_policy_stops_what_would_slip_through(page, study):
    page.goto(study)
    ran = page.evaluate(
        """async () => {
            const script = document.createElement('script');
            script.textContent = 'window.ran = 1';
            document.body.append(script);
            const picture = '<img src="data:image/png;base64,x" onerror="window.ran = 2">';
            document.body.insertAdjacentHTML('beforeend', picture);
            const asked = await fetch('data:text/plain,x').then(() => 'asked', () => 'refused');
            await new Promise(done => setTimeout(done, 200));
            return [window.ran ?? 'nothing', asked];
        }"""
    )
    assert ran == ["nothing", "refused"]


def test_a_training_is_gone_through_step_by_step(page, tmp_path):
    page.goto(write_report(write_run(tmp_path / "run")).as_uri())
    mark = page.locator("#run .curve i").first
    expect(at(page, "step-shown")).to_have_text("6")
    expect(at(page, "group-from")).to_have_text("Completions of step 6 are not in this page; these are of step 5.")
    before = mark.bounding_box()["x"]
    at(page, "step").focus()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    expect(at(page, "step-shown")).to_have_text("3")
    expect(at(page, "group-from")).to_have_text("")
    expect(page.locator("#run tr").filter(has_text="completions/mean_length")).to_contain_text("23")
    expect(page.locator("#run [data-mk=id]")).to_contain_text("CT-train-0-3")
    expect(page.locator("#run .mk-text")).to_have_count(len(TEXTS))
    expect(page.locator("#run .mk-text").first).to_contain_text("<script>alert(1)</script>")
    expect(page.locator("#run img.mk-image")).to_have_count(1)
    assert mark.bounding_box()["x"] < before
    page.evaluate(
        """async () => {
            const slider = document.querySelector('[data-mk=step]');
            for (const place of [1, 2]) {  // there and back before the other step's groups are unpacked
                slider.value = place;
                slider.dispatchEvent(new Event('input'));
                for (let i = 0; i < 9; i++) await null;
            }
            await new Promise(done => setTimeout(done, 300));
        }"""
    )
    at(page, "group-on").click()
    expect(page.locator("#run [data-mk=id]")).to_contain_text("CT-train-0-3")
    at(page, "step-on").click()
    expect(at(page, "step-shown")).to_have_text("4")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_focus_is_seen_in_light_and_dark_and_every_control_is_a_native_one(page, study, scheme):
    page.emulate_media(color_scheme=scheme)
    page.goto(study)
    expect(at(page, "next")).to_be_enabled()
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, back[4:-1].split(","))) > 600) == (scheme == "light")
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        tag, hook, width = page.evaluate(
            """() => { const e = document.activeElement;
            const tag = e.tagName === 'IMG' && e.role === 'button' ? 'BUTTON' : e.tagName;  // enlarges: it says so
            return [tag, e.dataset.mk ?? '', parseFloat(getComputedStyle(e).outlineWidth)]; }"""
        )
        assert tag in ("A", "BUTTON", "SELECT", "INPUT", "TEXTAREA", "SUMMARY", "DIV", "BODY"), tag
        assert width >= 1 or tag in ("BODY", "DIV"), (tag, hook)
        seen.add(hook)
    hooks = {
        "tested",
        "filter",
        "map",
        "draw",
        "first",
        "second",
        "third",
        "kind",
        "modality",
        "task",
        "search",
        "next",
    }
    assert hooks | {"note", "save", "number"} <= seen
