"""OpenLineage datasets, facets and events for governed models.

`names`, `facets`, `datasets` and `events` make plain values without any library; `facet_schemas`
says what our own facets may hold. `emission` turns all of it into objects of the OpenLineage
client, and is the only file here that needs it.
"""

from __future__ import annotations
