"""The pages in Chromium, under their content security policy, in a wide and in a narrow window.

A page of the test's own holds each page in a frame, measures it, and leaves what it found in its
document. Chromium reports on its error output what a page may not do.
"""

from __future__ import annotations

import functools
import html
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from airflow_mlgov.api.form_token import ForeignFormError, check_origin
from airflow_mlgov.dossiers.pages import content_security_policy

_DOSSIERS = Path(__file__).parents[1] / "unit" / "dossiers" / "conftest.py"
_spec = importlib.util.spec_from_file_location("written_dossiers", _DOSSIERS)
assert _spec is not None
assert _spec.loader is not None
dossiers = importlib.util.module_from_spec(_spec)
sys.modules["written_dossiers"] = dossiers
_spec.loader.exec_module(dossiers)

WIDTHS = (360, 390, 768, 1280)
LONG = '<script>document.title="x"</script>' + "unbroken" * 40
FRAME = """<!DOCTYPE html><meta charset="utf-8"><body><script>
const found = {};
const widths = %s;
function look(number) {
  if (number == widths.length) {
    document.body.innerHTML = "<pre id=found></pre>";
    document.getElementById("found").textContent = JSON.stringify(found);
    return;
  }
  const frame = document.createElement("iframe");
  frame.width = widths[number];
  frame.height = 1500;
  frame.onload = () => {
    const page = frame.contentDocument.documentElement;
    page.querySelectorAll("details").forEach((form) => { form.open = true; });
    found[widths[number]] = {
      overflow: page.scrollWidth - page.clientWidth,
      color: getComputedStyle(page.querySelector("header")).backgroundColor,
      title: frame.contentDocument.title,
      scripts: frame.contentDocument.scripts.length,
    };
    frame.remove();
    look(number + 1);
  };
  frame.src = "%s";
  document.body.append(frame);
}
look(0);
</script>"""


SEND = """<!DOCTYPE html><meta charset="utf-8"><body><iframe width="800" height="1500"></iframe>
<script>
const frame = document.querySelector("iframe");
let loads = 0;
frame.onload = () => {
  const page = frame.contentDocument;
  loads += 1;
  if (loads > 1) {
    const found = [page.location.pathname, page.querySelector("h1").textContent];
    document.body.innerHTML = "<pre id=found></pre>";
    document.getElementById("found").textContent = JSON.stringify(found);
    return;
  }
  const form = page.querySelector("form[action$='/accept/F-1']");
  form.closest("details").open = true;
  const button = form.querySelector("button");
  button.click();  // the browser does not send it: nothing is filled in
  form.elements.until.value = "2026-09-01";
  form.elements.reason.value = "too late a day";
  button.click();  // nor this: the day is beyond the last one
  form.elements.until.value = "2026-06-15";
  form.elements.reason.value = "small \u00e9 & <b>";
  button.click();
};
frame.src = "/page/model";
</script>"""
FOREIGN = """<!DOCTYPE html><form method="post" action="http://127.0.0.1:%s/mlgov/models/x/stop">
<input name="reason" value="forged"></form><script>document.forms[0].submit()</script>"""


def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    if os.environ.get("CI"):
        pytest.fail("Chromium is not installed: the pages cannot be looked at.")
    pytest.skip("Chromium is not installed: the pages are not looked at in a browser.")


class Pages(BaseHTTPRequestHandler):
    """Serves pages under the policy, and frames around them without one."""

    def __init__(self, pages: dict[str, str], *arguments: Any) -> None:
        self.pages = pages
        super().__init__(*arguments)

    def do_GET(self) -> None:
        kind, _, name = self.path.strip("/").partition("/")
        is_page = kind == "page"
        if kind in {"send", "foreign"}:
            body = SEND if kind == "send" else FOREIGN % self.server.server_address[1]
        else:
            body = self.pages[name] if is_page else FRAME % (json.dumps(WIDTHS), f"/page/{name}")
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        if is_page:
            self.send_header("Content-Security-Policy", content_security_policy())
            self.send_header("Referrer-Policy", "same-origin")
        self.end_headers()
        self.wfile.write(body.encode())

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["content-length"])).decode()
        problems = []
        # A browser says more to an address that it trusts, as this one: each must do by itself.
        for dropped in ("sec-fetch-site", "origin"):
            headers = {k.lower(): v for k, v in self.headers.items() if k.lower() != dropped}
            try:
                check_origin(headers, "")
            except ForeignFormError as error:
                problems.append(str(error))
        POSTED.append((self.path, parse_qs(sent), problems))
        self.send_response(303)
        self.send_header("Location", "/page/evidence")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


POSTED: list[tuple[str, dict[str, list[str]], list[str]]] = []
PAGES = {
    **dossiers.written_pages(),
    **{f"hostile-{name}": page for name, page in dossiers.written_pages(LONG).items()},
    "control": "<!DOCTYPE html><title>control</title><header></header>"
    '<p style="color: red">x<script>document.title = "ran"</script><img src="/page/x">'
    "<pre>" + "x" * 500 + "</pre>",
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    served = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Pages, PAGES))
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()
    served.server_close()


def looked_at(url: str, profile: Path) -> tuple[Any, list[str]]:
    """Return what the frame left in its document, and what the browser complained about."""
    done = opened(url, profile)
    match = re.search(r'<pre id="found">(.*?)</pre>', done.stdout)
    assert match, done.stderr[-2000:]
    return json.loads(html.unescape(match[1])), re.findall(r"CONSOLE.*", done.stderr)


def opened(url: str, profile: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            chromium(),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={profile}",
            "--enable-logging=stderr",
            "--virtual-time-budget=20000",
            "--dump-dom",
            url,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("name", [name for name in PAGES if name != "control"])
def test_a_page_fits_its_window_and_breaks_no_rule(server, tmp_path, name):
    found, complaints = looked_at(f"{server}/frame/{name}", tmp_path)
    assert complaints == []
    assert {int(width): seen["overflow"] for width, seen in found.items()} == dict.fromkeys(
        WIDTHS, 0
    )
    for seen in found.values():
        assert seen["color"] == "rgb(22, 32, 44)"  # the style sheet is in force
        assert seen["scripts"] == 0
        assert seen["title"] != "x"


def test_what_breaks_the_rules_is_noticed(server, tmp_path):
    """Else the test above could not fail."""
    found, complaints = looked_at(f"{server}/frame/control", tmp_path)
    assert {seen["title"] for seen in found.values()} == {"control"}
    assert all(seen["overflow"] > 0 for seen in found.values())
    said = " ".join(complaints)
    for directive in ("style-src", "script", "img-src"):
        assert directive in said


def test_a_form_is_filled_in_and_sent(server, tmp_path):
    POSTED.clear()
    found, complaints = looked_at(f"{server}/send/model", tmp_path)
    assert complaints == []
    assert found[0] == "/page/evidence"
    assert found[1].startswith("Approve")
    ((path, fields, problems),) = POSTED  # those that were not filled in were not sent
    assert path == "/mlgov/models/retail_pd/accept/F-1"
    assert fields == {
        "token": [dossiers.TOKEN],
        "until": ["2026-06-15"],
        "reason": ["small \u00e9 & <b>"],
    }
    assert problems == []


def test_a_form_of_another_site_is_known_by_what_the_browser_says(server, tmp_path):
    POSTED.clear()
    opened(server.replace("127.0.0.1", "localhost") + "/foreign/x", tmp_path)
    ((path, fields, problems),) = POSTED
    assert (path, fields) == ("/mlgov/models/x/stop", {"reason": ["forged"]})
    assert len(problems) == 2
