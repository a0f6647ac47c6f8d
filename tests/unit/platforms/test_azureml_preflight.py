from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from azureml_account import STORAGE, WORKSPACE

from airflow_mlgov.platforms.azureml import AzureMlPlatform
from airflow_mlgov.policy.platform_controls import SUBJECTS, PlatformRules, Verdict, examine
from airflow_mlgov.policy.platforms_file import Instance
from airflow_mlgov.records.digest import Digest
from airflow_mlgov.service.job_platform import JobSpec

if TYPE_CHECKING:
    from azureml_server import FakeAzure

STRICT = PlatformRules(
    regions=("westeurope", "northeurope"),
    customer_keys=("output", "model"),
    private_network=True,
    isolated=True,
    encrypted_traffic=True,
    named_identity=True,
    max_hours=4,
    max_instances=1,
    spot=False,
    required_tags=("cost-centre", "mlgov-model"),
    image_registries=("bank.azurecr.io",),
    pinned_images=True,
)


def request_of(platform: AzureMlPlatform) -> dict[str, Any]:
    spec = Digest.of(b"spec")
    return platform.render(
        JobSpec(
            key="mlgov-0123456789abcdef0123",
            spec=spec,
            code_uri=platform.output_uri(f"staged/{spec.hex}"),
            inputs={"development": platform.output_uri("staged/ab/x.csv")},
            output_uri=platform.output_uri("jobs/mlgov-0123456789abcdef0123"),
            timeout_s=7200,
            labels={"mlgov-model": "retail_pd"},
        )
    )


def failing(fake: FakeAzure, rules: PlatformRules = STRICT, **changes: Any) -> set[str]:
    """Return what fails of a pack: its rule, and how."""
    platform = AzureMlPlatform(fake.terms(**changes))
    request = request_of(platform)
    said = [*platform.stated(request), *platform.preflight(request)]
    assert {each.subject for each in said} <= set(SUBJECTS)
    results = examine(rules, said)
    return {f"{e.rule} {e.verdict} {e.field}" for e in results if e.verdict != Verdict.PASSED}


def change(fake: FakeAzure, path: str, **properties: Any) -> None:
    fake.resources[path]["properties"].update(properties)


def test_a_bank_s_workspace_passes_a_strict_pack(azure: FakeAzure) -> None:
    assert failing(azure) == set()


def test_a_cluster_in_the_bank_s_network_passes(azure: FakeAzure) -> None:
    assert failing(azure, instance=Instance("any", compute="cluster")) == set()


def test_every_subject_is_stated(azure: FakeAzure) -> None:
    for instance in (Instance("any"), Instance("any", compute="cluster")):
        platform = AzureMlPlatform(azure.terms(instance=instance))
        request = request_of(platform)
        said = {each.subject for each in [*platform.stated(request), *platform.preflight(request)]}
        assert said == set(SUBJECTS)


@pytest.mark.parametrize(
    ("changes", "fails"),
    [
        ({"identity": ""}, "named_identity failed properties.identity.clientId"),
        (
            {"instance": Instance("any", spot=True)},
            "spot failed properties.queueSettings.jobTier",
        ),
        ({"tags": {}}, "required_tags failed properties.tags"),
        ({"image": "docker.io/x@sha256:" + "a" * 64}, "image_registries failed environment"),
        ({"image": "bank.azurecr.io/x:latest"}, "pinned_images failed environment"),
    ],
)
def test_what_a_request_says_is_judged(
    changes: dict[str, Any], fails: str, azure: FakeAzure
) -> None:
    (found,) = failing(azure, **changes)
    assert found.startswith(fails)


def test_two_machines_have_traffic_that_azure_says_nothing_of(azure: FakeAzure) -> None:
    assert failing(azure, instance=Instance("any", 2)) == {
        "encrypted_traffic unchecked properties.resources.instanceCount",
        "max_instances failed properties.resources.instanceCount",
    }


@pytest.mark.parametrize(
    ("path", "properties", "fails"),
    [
        (
            WORKSPACE,
            {"publicNetworkAccess": "Enabled"},
            {"private_network failed workspace publicNetworkAccess"},
        ),
        (
            WORKSPACE,
            {"managedNetwork": {"isolationMode": "AllowInternetOutbound"}},
            {"isolated failed workspace managedNetwork.isolationMode"},
        ),
        (
            WORKSPACE,
            {"managedNetwork": {"isolationMode": "Disabled"}},
            {
                "private_network failed workspace managedNetwork.isolationMode",
                "isolated failed workspace managedNetwork.isolationMode",
            },
        ),
        (
            STORAGE,
            {"encryption": {"keySource": "Microsoft.Storage"}},
            {"customer_keys failed storage account encryption.keySource"},
        ),
        (
            STORAGE,
            {"allowBlobPublicAccess": True},
            {"private_network failed storage account allowBlobPublicAccess"},
        ),
        (
            STORAGE,
            {"publicNetworkAccess": "Enabled"},
            {"private_network failed storage account publicNetworkAccess"},
        ),
    ],
)
def test_what_the_account_says_is_judged(
    path: str, properties: dict[str, Any], fails: set[str], azure: FakeAzure
) -> None:
    change(azure, path, **properties)
    assert failing(azure) == fails


def test_a_key_that_is_not_in_force_is_none(azure: FakeAzure) -> None:
    azure.resources[WORKSPACE]["properties"]["encryption"]["status"] = "Disabled"
    assert failing(azure) == {
        "customer_keys failed workspace encryption.keyVaultProperties.keyIdentifier"
    }


def test_what_is_left_unsaid_has_not_passed(azure: FakeAzure) -> None:
    for path, name in (
        (WORKSPACE, "publicNetworkAccess"),
        (STORAGE, "publicNetworkAccess"),
        (STORAGE, "allowBlobPublicAccess"),
    ):
        del azure.resources[path]["properties"][name]
    assert failing(azure) == {
        "private_network failed workspace publicNetworkAccess",
        "private_network failed storage account publicNetworkAccess",
        "private_network failed storage account allowBlobPublicAccess",
    }


def test_a_region_is_judged_where_it_is(azure: FakeAzure) -> None:
    azure.resources[WORKSPACE]["location"] = "East US"
    azure.resources[STORAGE]["location"] = "eastus2"
    azure.resources[f"{WORKSPACE}/computes/cluster"]["properties"]["computeLocation"] = "brazil"
    assert failing(azure, instance=Instance("any", compute="cluster")) == {
        "regions failed workspace location",
        "regions failed storage account location",
        "regions failed compute location",
    }


def test_a_region_may_be_written_for_people(azure: FakeAzure) -> None:
    azure.resources[WORKSPACE]["location"] = "West Europe"
    assert failing(azure) == set()


@pytest.mark.parametrize(
    ("name", "value", "fails"),
    [
        ("enableNodePublicIp", True, {"private_network failed compute enableNodePublicIp"}),
        ("vmPriority", "LowPriority", {"spot failed compute vmPriority"}),
        ("subnet", None, set()),
    ],
)
def test_a_cluster_is_judged(name: str, value: Any, fails: set[str], azure: FakeAzure) -> None:
    azure.resources[f"{WORKSPACE}/computes/cluster"]["properties"]["properties"][name] = value
    assert failing(azure, instance=Instance("any", compute="cluster")) == fails


def test_a_cluster_without_any_network_is_not_private(azure: FakeAzure) -> None:
    change(azure, WORKSPACE, managedNetwork={"isolationMode": "Disabled"})
    azure.resources[f"{WORKSPACE}/computes/cluster"]["properties"]["properties"]["subnet"] = None
    assert failing(azure, instance=Instance("any", compute="cluster")) == {
        "private_network failed compute subnet.id, workspace managedNetwork.isolationMode",
        "isolated failed workspace managedNetwork.isolationMode",
    }


def test_disks_have_no_key_of_a_customer_s(azure: FakeAzure) -> None:
    rules = PlatformRules(customer_keys=("volume",))
    assert failing(azure, rules) == {
        "customer_keys failed disks of Azure ML compute (Microsoft's keys)"
    }


@pytest.mark.parametrize("denied", ["/workspaces/bank-ml", "Microsoft.Storage"])
def test_what_could_not_be_asked_is_not_passed(denied: str, azure: FakeAzure) -> None:
    azure.denied.append(denied)
    found = failing(azure)
    assert found
    assert {each.split()[1] for each in found} == {"unchecked"}


def test_an_account_elsewhere_is_looked_for_beside_the_workspace(azure: FakeAzure) -> None:
    found = failing(azure, output=f"{azure.url}/another/mlgov/training")
    assert "regions unchecked storage account location" in found
    azure.resources[STORAGE.replace("devstoreaccount1", "another")] = azure.resources[STORAGE]
    assert failing(azure, output=f"{azure.url}/another/mlgov/training") == set()
