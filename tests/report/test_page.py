"""A page as a browser shows it: nothing is fetched, nothing goes wrong, clicks sort and toggle, and names run no script."""

import pytest

pytestmark = pytest.mark.posix
DRAWN = "document.querySelectorAll('.plot .main-svg').length > 0"
MOST_BYTES = 6_000_000


def column(browser, number, *, table=0):
    """The texts of a column of the first table that has so many columns."""
    script = (
        f"[...document.querySelectorAll('table')[{table}].tBodies[0].rows].map(row => row.cells[{number}].textContent)"
    )
    return browser.run(script)


def wait_for(browser, condition):
    script = f"new Promise(done => {{ const look = () => ({condition}) ? done(true) : setTimeout(look, 30); look(); }})"
    assert browser.run(script)


@pytest.fixture(scope="module")
def pages(runs, tmp_path_factory):
    """The page of each run, and of two together."""
    from dlkit.report import ReportRequest, run_report

    folder = tmp_path_factory.mktemp("pages")
    wanted = {name: (getattr(runs, name),) for name in ("one", "maps", "labels", "numbers", "hostile")} | {
        "both": (runs.one, runs.two)
    }
    return {name: run_report(ReportRequest(paths, folder / f"{name}.html")).path for name, paths in wanted.items()}


@pytest.mark.parametrize("name", ["one", "maps", "labels", "numbers", "hostile", "both"])
def test_it_opens_without_a_complaint_and_asks_for_nothing(pages, browser, name):
    assert pages[name].stat().st_size < MOST_BYTES
    browser.open(pages[name], width=390, height=800)
    browser.run("document.querySelectorAll('.plot').forEach(plot => plot.scrollIntoView())")
    wait_for(browser, DRAWN)
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith(("data:", "blob:"))] == [pages[name].as_uri()]
    assert browser.run("document.documentElement.scrollWidth") == 390  # nothing sticks out of a phone
    assert browser.run("window.hacked") is None


def test_clicks_sort_tables(pages, browser):
    browser.open(pages["one"])
    script = "[...document.querySelectorAll('th')].findIndex(cell => cell.textContent === 'recall')"
    place = browser.run(script)
    table = browser.run(
        f"[...document.querySelectorAll('table')].indexOf(document.querySelectorAll('th')[{place}].closest('table'))"
    )
    browser.run(f"document.querySelectorAll('th')[{place}].firstElementChild.id = 'recall'")
    before = [float(text.rstrip("%")) for text in column(browser, 3, table=table)]
    browser.click("#recall")
    falling = [float(text.rstrip("%")) for text in column(browser, 3, table=table)]
    browser.click("#recall")
    rising = [float(text.rstrip("%")) for text in column(browser, 3, table=table)]
    assert falling == sorted(before, reverse=True) and rising == sorted(before) and len(set(before)) > 1
    assert browser.run("document.getElementById('recall').parentElement.getAttribute('aria-sort')") == "ascending"


def test_the_theme_is_that_of_the_system_until_a_click(pages, browser):
    ground = "getComputedStyle(document.body).backgroundColor"
    browser.open(pages["one"], is_dark=True)
    assert browser.run(ground) == "rgb(18, 22, 28)"
    browser.click("#theme")
    assert browser.run(ground) == "rgb(255, 255, 255)"
    browser.open(pages["one"])
    assert browser.run(ground) == "rgb(255, 255, 255)"
    browser.click("#theme")
    assert browser.run(ground) == "rgb(18, 22, 28)" and browser.complaints == []


def test_axes_become_logarithmic(pages, browser):
    browser.open(pages["one"])
    wait_for(browser, DRAWN)
    browser.click(".log")
    assert browser.run("document.querySelector('.plot').layout.yaxis.type") == "log"
    browser.click(".log")
    assert browser.run("document.querySelector('.plot').layout.yaxis.type") != "log"


def test_pictures_of_mistakes_are_in_the_file(pages, browser):
    browser.open(pages["one"])
    sizes = browser.run("[...document.querySelectorAll('.gallery img')].map(image => image.naturalWidth)")
    assert sizes and set(sizes) == {8}


def test_maps_stand_beside_their_picture(pages, browser):
    browser.open(pages["maps"])
    strips = "[...document.querySelectorAll('.gallery li')].map(item => [...item.querySelectorAll('img')].map(({})))"
    assert set(map(tuple, browser.run(strips.format("image => image.alt")))) == {
        ("image", "truth", "prediction", "error")
    }
    rows = browser.run(strips.format("image => image.getBoundingClientRect().top"))
    assert all(len(set(row)) == 1 for row in rows)
    swatches = "[...document.querySelectorAll('.legend i')].map(item => getComputedStyle(item).backgroundColor)"
    assert browser.run(swatches)[:2] == ["rgb(0, 0, 0)", "rgb(128, 0, 0)"]
