"""A page as a browser shows it: nothing is fetched, nothing goes wrong, clicks sort and toggle, and names run no script."""

import pytest

from dlkit.run_folders import read_run

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


def place_of(browser, step, value):
    """Where the first chart has a point, in the window."""
    browser.run("document.querySelector('.plot').scrollIntoView({block: 'center', behavior: 'instant'})")
    return browser.run(
        f"""(() => {{
          const plot = document.querySelector('.plot'), {{ xaxis, yaxis }} = plot._fullLayout, box = plot.getBoundingClientRect();
          return [box.x + xaxis._offset + xaxis.d2p({step}), box.y + yaxis._offset + yaxis.d2p({value})];
        }})()"""
    )


def test_curves_tell_their_values_under_the_mouse(pages, runs, browser):
    browser.open(pages["one"])
    wait_for(browser, DRAWN)
    row = read_run(runs.one).epochs[1]
    browser.point(*place_of(browser, row["step"], row["val_loss"]))
    wait_for(browser, "document.querySelector('.plot .hoverlayer').textContent.includes('validation')")
    words = browser.run("[...document.querySelectorAll('.plot .hoverlayer text')].map(text => text.textContent)")
    told = dict(word.split(" : ") for word in words if " : " in word)
    assert told["validation"] == f"{row['val_loss']:.4g}" and told["train"] == f"{row['train_loss']:.4g}"
    assert str(row["step"]) in words


def test_a_box_drawn_over_curves_zooms_and_two_clicks_go_back(pages, runs, browser):
    browser.open(pages["one"])
    wait_for(browser, DRAWN)
    shown = "document.querySelector('.plot')._fullLayout.{}axis.range"
    whole = [browser.run(shown.format(axis)) for axis in "xy"]
    middle = [(2 * low + high) / 3 for low, high in whole], [(low + 2 * high) / 3 for low, high in whole]
    browser.drag(*(place_of(browser, *corner) for corner in middle))
    wait_for(browser, f"{shown.format('x')}[0] > {whole[0][0]}")
    zoomed = [browser.run(shown.format(axis)) for axis in "xy"]
    for wanted, range_, (low, high) in zip(zip(*middle, strict=True), zoomed, whole, strict=True):
        assert range_ == pytest.approx(wanted, abs=0.02 * (high - low))
    centre = [sum(range_) / 2 for range_ in zoomed]
    for count in (1, 2):
        for kind in ("mousePressed", "mouseReleased"):
            browser.point(*place_of(browser, *centre), kind, button="left", clickCount=count)
    wait_for(browser, f"{shown.format('x')}[0] <= {whole[0][0]}")
    assert browser.run(shown.format("x")) == pytest.approx(whole[0]) and browser.complaints == []


# a page opens in under 2 s on a quiet machine; a busy one takes longer, but for no more work
MOST_WORK = 10  # of SOME_WORK; ours takes 3 to 5, so that one of 5 times as much is over it
SOME_WORK = """(() => {
  for (let round = 0; round < 30; round++) {
    const rows = Array.from({ length: 4000 }, (_, k) => ({ k, y: Math.sin(k + round), name: `row ${k}` }));
    JSON.parse(JSON.stringify(rows)).sort((one, other) => one.y - other.y);
  }
})()"""


def least_work(browser, path=None):
    """The seconds of a processor, of several attempts the least, to open a page and draw what the window shows, or for SOME_WORK."""
    taken = []
    for _ in range(3):
        browser.open(path) if path else browser.call("Page.navigate", url="about:blank")
        before = 0 if path else browser.cpu_s()
        wait_for(browser, DRAWN) if path else browser.run(SOME_WORK)
        taken.append(browser.cpu_s() - before)
    return min(taken)


@pytest.mark.slow
def test_it_opens_with_little_work(pages, browser):
    browser.open(pages["one"])  # the first page of a browser loads fonts, too
    wait_for(browser, DRAWN)
    assert least_work(browser, pages["one"]) < MOST_WORK * least_work(browser)


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
