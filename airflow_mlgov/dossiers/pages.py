"""Pages for people, as HTML that needs no script and nothing from elsewhere.

Every value is escaped by jinja2, and before that what does not print (control characters, marks
that turn the direction of text) is replaced by its code point, so that nothing in a name or comment
can forge what stands beside it. The one style sheet stands in the page, which can be kept as it is.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from airflow_mlgov.dossiers.desk import Desk
from airflow_mlgov.dossiers.evidence import Dossier, SampleCurves
from airflow_mlgov.dossiers.lists import ModelPage, Overview
from airflow_mlgov.dossiers.plots import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Plot,
    plot_calibration,
    plot_histogram,
    plot_roc,
)
from airflow_mlgov.dossiers.site import Site

MAX_TEXT = 4000
"""Characters of a text that are shown."""


def write_evidence_page(
    dossier: Dossier, site: Site, desk: Desk | None = None, token: str = ""
) -> str:
    """Return the evidence page of a request.

    Args:
        dossier: What it says.
        site: Where its links lead.
        desk: What the reader may do; None for nothing.
        token: What shows, when a form comes back, that this reader was given it.
    """
    plots = _plots(dossier)
    return _write("evidence.html", site, dossier=dossier, plots=plots, desk=desk, token=token)


def write_model_page(page: ModelPage, site: Site, token: str = "") -> str:
    """Return the page of a model, with the requests for it."""
    return _write("model.html", site, page=page, desk=page.desk, token=token)


def write_overview(overview: Overview, site: Site) -> str:
    """Return the page that says what waits for whom."""
    return _write("overview.html", site, overview=overview)


def write_exit_report(report: Mapping[str, Any], site: Site) -> str:
    """Return the page of an exit rehearsal.

    Args:
        report: Its evidence document.
        site: Where its links lead.
    """
    return _write("exit.html", site, report=report)


def write_problem(title: str, problem: str, site: Site, *, back: str = "", typed: str = "") -> str:
    """Return a page that says why there is no other.

    Args:
        title: In a few words.
        problem: In full, with what to do about it.
        site: Where its links lead.
        back: Where the reader came from; empty for nowhere.
        typed: What the reader had typed, to be copied; empty for nothing.
    """
    return _write("problem.html", site, title=title, problem=problem, back=back, typed=typed)


@lru_cache(maxsize=1)
def content_security_policy() -> str:
    """Return the pages' header: this style sheet, no script, forms to this server only."""
    style = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{style}'; img-src data:; "
        "frame-ancestors 'self'; base-uri 'none'; form-action 'self'"
    )


def visible(value: Any) -> Any:
    """Return text with what does not print replaced by its code point, and cut; all else as it is.

    Line breaks stay: they are shown only where a text is by itself.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    text = str(value).replace("\r\n", "\n")
    more = len(text) - MAX_TEXT
    shown = "".join(
        char if char.isprintable() or char == "\n" else f"[U+{ord(char):04X}]"
        for char in text[:MAX_TEXT]
    )
    return f"{shown} … [{more:,} more characters]" if more > 0 else shown


def _write(template: str, site: Site, **said: Any) -> str:
    return _environment().get_template(template).render(site=site, style=_style(), **said)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("airflow_mlgov.dossiers"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"moment": _moment, "day": _day, "figure": _figure, "words": _words}
    environment.globals["frame"] = _FRAME
    return environment


_FRAME = {
    "width": WIDTH,
    "height": HEIGHT,
    "left": LEFT,
    "right": RIGHT,
    "top": TOP,
    "bottom": BOTTOM,
}


@lru_cache(maxsize=1)
def _style() -> str:
    return (files("airflow_mlgov.dossiers") / "templates" / "page.css").read_text("utf-8")


def _plots(dossier: Dossier) -> list[list[Plot]]:
    """Return the plots, a row for each sample; what the version has not seen comes first."""
    curves = [drawn for report in dossier.reports for drawn in report.curves]
    return [_drawn(drawn) for drawn in sorted(curves, key=lambda drawn: drawn.name, reverse=True)]


def _drawn(curves: SampleCurves) -> list[Plot]:
    return [
        plot_roc(curves.name, curves.roc, curves.challenger_roc),
        plot_calibration(curves.name, curves.calibration),
        plot_histogram(curves.name, curves.histogram),
    ]


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d}"


def _figure(number: float | None) -> str:
    return "not computed" if number is None else f"{number:.4g}"


def _words(names: Iterable[str]) -> str:
    return ", ".join(names)
