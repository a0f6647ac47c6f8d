"""What a vendor's platform and registry share: clients, credentials, errors, stores."""

from __future__ import annotations
