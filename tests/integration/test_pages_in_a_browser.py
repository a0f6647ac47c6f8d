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

import pytest

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
        body = self.pages[name] if is_page else FRAME % (json.dumps(WIDTHS), f"/page/{name}")
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        if is_page:
            self.send_header("Content-Security-Policy", content_security_policy())
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        pass


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


def looked_at(url: str, profile: Path) -> tuple[dict[str, Any], list[str]]:
    """Return what the frame measured by width, and what the browser complained about."""
    done = subprocess.run(
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
    match = re.search(r'<pre id="found">(.*?)</pre>', done.stdout)
    assert match, done.stderr[-2000:]
    return json.loads(html.unescape(match[1])), re.findall(r"CONSOLE.*", done.stderr)


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
