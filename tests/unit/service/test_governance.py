from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_mlgov.errors import ConfigurationError


def test_model_and_pack_are_found(world):
    entry = world.gov.model("retail_pd")
    assert entry.id == "retail_pd"
    assert world.gov.pack_for(entry) is world.gov.packs["retail_credit"]


def test_an_unknown_model_is_told_the_known_ones(world):
    world.gov.inventory["fraud"] = replace(world.gov.inventory["retail_pd"], id="fraud")
    with pytest.raises(
        ConfigurationError, match=r"'retail_lgd'.*knows: fraud, retail_pd"
    ) as caught:
        world.gov.model("retail_lgd")
    assert "'retail_lgd'" in str(caught.value)
    assert not caught.value.retryable
    world.gov.inventory.clear()
    with pytest.raises(ConfigurationError, match="knows: none"):
        world.gov.model("retail_lgd")


def test_an_unknown_pack_is_told_the_file_that_names_it_and_the_known_ones(world):
    world.with_inventory(policy="insurance")
    entry = world.gov.model("retail_pd")
    with pytest.raises(ConfigurationError) as caught:
        world.gov.pack_for(entry)
    message = str(caught.value)
    assert message.startswith(f"{entry.file}: ")
    assert "'insurance'" in message
    assert "knows: retail_credit" in message
    world.gov.packs.clear()
    with pytest.raises(ConfigurationError, match="knows: none"):
        world.gov.pack_for(entry)
