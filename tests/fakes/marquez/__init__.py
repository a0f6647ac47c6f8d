"""A Marquez that keeps the real one's rules, the harmful ones too, and answers over HTTP.

Made from the answers of a real Marquez 0.51.1 in `tests/assets/marquez`, from what was measured on
it (the fifteen rules of its reading notes), and, for what neither shows, from reading its sources.
`tests/unit/lineage/test_fake_marquez.py` replays every recording against it.

Read in the sources only, never seen on a live one: that a START with a bad output namespace is
stored with 201 and breaks the lists all the same; that a bad input namespace is refused before
anything but the raw event is kept; which typed facets 422 looks at; which run a job's graph node
shows if it has a parent; that a dataset does not show output facets; what DELETE and POST of run
states answer in full.

What it cannot prove: anything about speed, memory or PostgreSQL (locks, restarts, what two parallel
transactions do to each other beyond the one harm that was measured: a run that stays RUNNING); how
the web interface draws; column lineage, tags, sources, search and DatasetEvent or JobEvent, which
it answers with 501 rather than guess. Where the database leaves an order open, it has one of its
own. A test that passes here still has to pass on a real one (`MARQUEZ_URL`).
"""

from __future__ import annotations

from marquez.server import FakeMarquez

__all__ = ["FakeMarquez"]
