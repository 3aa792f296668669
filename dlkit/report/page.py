"""A page as one HTML text: the template, its style and script, and Plotly's script, so that nothing is fetched."""

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from dlkit.errors import UsageError
from dlkit.files import without_nan
from dlkit.report.blocks import Chart, Page

MISSING = "a report needs {} which is not installed: pip install 'dlkit[report]'"
# nothing but what stands in the file; the page's own scripts are inline
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)


def check_drawing() -> None:
    """Raise UsageError where Jinja2 or Plotly is not installed."""
    from importlib.util import find_spec

    if missing := [name for name in ("jinja2", "plotly") if find_spec(name) is None]:
        raise UsageError(MISSING.format(" and ".join(missing) + ","))


def render_page(page: Page) -> str:
    """Returns the HTML of a page. All texts are escaped; what is not finite is left out of charts."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("dlkit.report", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    charts = [block for section in page.sections for block in section.blocks if isinstance(block, Chart)]
    parts = {name: Markup(_own_text(name)) for name in ("page.css", "page.js")}
    return environment.get_template("page.html.j2").render(
        page=page,
        policy=POLICY,
        style=parts["page.css"],
        script=parts["page.js"],
        plotly=Markup(plotly_script()) if charts else "",
        chart_data=lambda chart: Markup(_as_json({"traces": chart.traces, "layout": chart.layout})),
    )


def _as_json(value: Mapping[str, Any]) -> str:
    """JSON that may stand in a script element: no tag begins or ends in it."""
    text = json.dumps(without_nan(value), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _own_text(name: str) -> str:
    return (resources.files("dlkit.report") / "template" / name).read_text(encoding="utf-8")


@cache
def plotly_script() -> str:
    """Returns the script of Plotly that its package brings along, read without importing the package, which takes a second."""
    from importlib.util import find_spec
    from pathlib import Path

    spec = find_spec("plotly")
    assert spec is not None and spec.origin is not None
    return (
        (Path(spec.origin).parent / "package_data" / "plotly.min.js")
        .read_text(encoding="utf-8")
        .replace("</script", "<\\/script")
    )
