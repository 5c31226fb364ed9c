"""report.html in a real browser, and `aurora report`."""

import json
import re
import shutil

import pytest
from browser import CHROMIUM, browser
from conftest import assert_one_line, aurora, small

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def comparison(text, tmp_path_factory):
    """Two optimizers and a variant with a hostile-looking name, two seeds, a sweep."""
    out = tmp_path_factory.mktemp("comparison") / "three"
    flags = small("--steps", 24, "--eval-every", 3, "--diagnose-every", 6, "--save-every", 24)
    result = aurora("compare", "--data", text, "--optimizers", "muon,aurora,aurora:pp_iterations=3+balance=release",
                    "--seeds", 2, "--sweep-lr", "0.5,1,2", "--out", out, *flags)
    assert result.returncode == 0, result.stderr
    return out


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as driven:
        yield driven


def number_of(text):
    """The first number of a cell, as shown: percent as a share."""
    match = re.match(r"[+−]?[\d.]+", text.strip())
    if not match:
        return None
    value = float(match[0].replace("−", "-"))
    return value / 100 if "%" in text.split("\n")[0] else value


def decimals_of(text):
    return len(re.match(r"[+−]?\d+\.?(\d*)", text.strip())[1])


@needs_chromium
@pytest.mark.parametrize("width", [1200, 390, 320])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_wider_than_the_page(page, comparison, width, dark):
    page.open(comparison / "report.html", width=width, dark=dark)
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.value("document.querySelectorAll('svg.chart').length") >= 6
    outside = page.value("[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, svg, pre') &&"
                         " e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))")
    assert outside == []
    background = page.value("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) < 200) == dark


@needs_chromium
def test_labels_stay_inside_their_pictures(page, comparison):
    for width in (1200, 390):
        page.open(comparison / "report.html", width=width)
        cut = page.value("[...document.querySelectorAll('svg.chart text')].filter(t => { const a ="
                         " t.getBoundingClientRect(), b = t.closest('figure').getBoundingClientRect();"
                         " return a.left < b.left - 2 || a.right > b.right + 8; }).map(t => t.textContent)")
        assert cut == []


@needs_chromium
def test_no_request_leaves_the_file(page, comparison):
    file = comparison / "report.html"
    page.open(file)
    page.point_at(300, 400)
    assert page.requests == [file.resolve().as_uri()]
    assert page.complaints == []
    assert file.stat().st_size < 2_000_000


@needs_chromium
def test_the_numbers_of_the_table_are_those_of_the_summary(page, comparison):
    summary = json.loads((comparison / "summary.json").read_text())
    page.open(comparison / "report.html")
    rows = page.value("Object.fromEntries([...document.querySelectorAll('#optimizers tr[data-optimizer]')].map(r =>"
                      " [r.dataset.optimizer, Object.fromEntries([...r.querySelectorAll('[data-field]')].map(c =>"
                      " [c.dataset.field, c.innerText]))]))")
    assert set(rows) == set(summary["optimizers"])
    assert len(rows) == 3
    for name, optimizer in summary["optimizers"].items():
        shown = rows[name]
        for field in ("val_loss", "bits_per_byte", "starved", "dead", "update_row_norm_cv", "step_ms"):
            expected = optimizer[field]["mean"] if isinstance(optimizer[field], dict) else optimizer[field]
            places = decimals_of(shown[field]) + (2 if "%" in shown[field] else 0)
            assert number_of(shown[field]) == pytest.approx(expected, abs=0.51 * 10**-places), (name, field)
        low, high = re.findall(r"[\d.]+", shown["val_loss"].split("\n")[-1])
        assert [float(low), float(high)] == pytest.approx(optimizer["val_loss"]["ci95"], abs=5.1e-5)
        assert number_of(shown["diverged"]) == optimizer["diverged"]
    for difference in summary["differences"]:
        shown = rows[difference["a"]]["difference"]
        assert number_of(shown) == pytest.approx(difference["val_loss"]["mean"], abs=5.1e-5)
    assert rows["muon"]["difference"] == "baseline"


@needs_chromium
def test_the_legend_switches_a_series_off_and_on_in_all_figures(page, comparison):
    page.open(comparison / "report.html")
    shown = "[...document.querySelectorAll('[data-series=\"1\"]')].map(e => getComputedStyle(e).display != 'none')"
    press = "document.querySelector('#time [data-switch=\"1\"]').click()"
    before = page.value(shown)
    assert len(before) >= 7
    assert all(before)
    page.value(press)
    assert not any(page.value(shown))
    pressed = "[...document.querySelectorAll('[data-switch=\"1\"]')].map(e => e.getAttribute('aria-pressed'))"
    assert set(page.value(pressed)) == {"false"}
    assert page.value("getComputedStyle(document.querySelector('#loss [data-series=\"4\"]')).display") != "none"
    page.value(press)
    assert all(page.value(shown))


def hover(page, selector):
    page.value(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
    box = page.value(f"(b => [b.left + b.width / 2, b.top + b.height / 2])"
                     f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())")
    page.point_at(*box)
    return page.value("document.querySelector('#tip').hidden ? null : document.querySelector('#tip').innerText")


@needs_chromium
def test_hovering_shows_the_values_of_the_nearest_points(page, comparison):
    page.open(comparison / "report.html")
    summary = json.loads((comparison / "summary.json").read_text())
    lines = hover(page, "#loss .series[data-series='1'] circle:last-of-type").splitlines()
    assert lines[0] == "step 24"
    assert len(lines) == 1 + len(summary["optimizers"])
    muon = next(line for line in lines if line.startswith("muon "))
    assert float(muon.split()[1]) == pytest.approx(summary["optimizers"]["muon"]["val_loss"]["mean"], abs=5.1e-5)
    assert re.fullmatch(r"[\d.]+\s% · layer \d · step \d+", hover(page, "#layers .maps rect"))
    page.point_at(2, 2)
    assert page.value("document.querySelector('#tip').hidden")


@needs_chromium
def test_without_script_the_page_has_all_numbers_and_curves(page, comparison):
    page.open(comparison / "report.html", script=False)
    assert page.value("document.querySelector('#tip')") is None
    assert page.value("document.querySelectorAll('#loss .series path.line').length") == 6
    assert page.value("[...document.querySelectorAll('svg[role=img]')].every(s => s.querySelector('title').textContent"
                      " && s.querySelector('desc').textContent)")
    assert page.value("[...document.querySelectorAll('svg')].every(s => s.role == 'img' || s.ariaHidden == 'true')")


@needs_chromium
def test_it_prints_in_light_colours_on_a_few_pages(page, comparison, tmp_path):
    page.open(comparison / "report.html", dark=True)
    page.print(tmp_path / "report.pdf")
    pages = len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "report.pdf").read_bytes()))
    assert 2 <= pages <= 8


def test_runs_trained_separately_make_a_report(run, adamw_run, tmp_path):
    for name, source in (("a", run), ("b", adamw_run)):
        shutil.copytree(source, tmp_path / name)
    result = aurora("report", tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"report: {tmp_path}/report.html" in result.stdout
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["optimizers"]) == {"aurora", "adamw"}
    html = (tmp_path / "report.html").read_text()
    assert "nothing can be concluded" in html.lower()
    assert "Runs that were trained separately." in html


def test_a_run_that_is_not_at_its_end_is_in_the_report(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    log = tmp_path / "run" / "log.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:-6]) + lines[-6][:20])
    result = aurora("report", tmp_path)
    assert result.returncode == 0, result.stderr
    html = (tmp_path / "report.html").read_text()
    assert "Not complete: 0 runs ended, 1 not at the last step yet." in html
    assert 'id="loss"' in html
    assert "No evaluation yet." not in html


def test_a_run_without_neuron_records_is_in_the_report(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    log = tmp_path / "run" / "log.jsonl"
    log.write_text("".join(line for line in log.read_text().splitlines(True) if '"kind":"neurons"' not in line))
    assert aurora("report", tmp_path).returncode == 0
    assert "These runs have no neuron records." in (tmp_path / "report.html").read_text()


def test_a_folder_without_runs_gives_one_line(tmp_path):
    assert_one_line(aurora("report", tmp_path), 2, "aurora report", tmp_path)
    assert_one_line(aurora("report", tmp_path / "nowhere"), 2, tmp_path / "nowhere")
    assert not (tmp_path / "report.html").exists()
