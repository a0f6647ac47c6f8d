"""SageMaker Model Registry on moto, whose gaps against AWS `sagemaker_server` lists."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace

import pytest
import sagemaker_server
from registry_contract import TAGS, RegistryContract

from airflow_mlgov.errors import (
    ArtefactError,
    ConfigurationError,
    RegistryError,
    VersionNotFoundError,
)
from airflow_mlgov.registries.sagemaker import SageMakerRegistry
from airflow_mlgov.service.artefacts import hash_directory


@pytest.fixture(scope="module")
def running():
    with sagemaker_server.start() as fake:
        yield fake


@pytest.fixture
def fake(running, monkeypatch):
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    return running


class TestContract(RegistryContract):
    @pytest.fixture
    def registry(self, fake) -> SageMakerRegistry:
        return SageMakerRegistry(fake.registry_terms())


class TestSageMaker:
    name = RegistryContract.name
    model = RegistryContract.model

    @pytest.fixture
    def registry(self, fake) -> SageMakerRegistry:
        return SageMakerRegistry(fake.registry_terms())

    @pytest.fixture
    def version(self, registry, name, model):
        return registry.register(name, model, hash_directory(model), TAGS)

    def _package(self, fake, version):
        client = fake.client("sagemaker")
        listed = client.list_model_packages(ModelPackageGroupName=version.name)
        (arn,) = (
            each["ModelPackageArn"]
            for each in listed["ModelPackageSummaryList"]
            if str(each["ModelPackageVersion"]) == version.version
        )
        return client.describe_model_package(ModelPackageName=arn)

    def _stored(self, fake, version):
        files = self._package(fake, version)["InferenceSpecification"]["Containers"][0]
        return files["ModelDataUrl"].removeprefix("s3://").split("/", 1)

    def test_a_candidate_is_pending_with_its_manifest_and_files(self, fake, version) -> None:
        said = self._package(fake, version)
        assert said["ModelApprovalStatus"] == "PendingManualApproval"
        digest = str(version.manifest)
        assert said["CustomerMetadataProperties"] == {**TAGS, "mlgov.manifest_sha256": digest}
        container = said["InferenceSpecification"]["Containers"][0]
        assert container["Image"] == sagemaker_server.IMAGE
        bucket, key = self._stored(fake, version)
        assert key == f"models/{version.name}/{version.manifest.hex}/model.tar.gz"
        stored = fake.client("s3").head_object(Bucket=bucket, Key=key)
        assert (stored["ServerSideEncryption"], stored["SSEKMSKeyId"]) == ("aws:kms", fake.key)
        assert version.is_approved is False

    def test_what_is_promoted_is_approved_and_nothing_else(
        self, fake, registry, name, model, version
    ) -> None:
        (model / "scorecard.json").write_text("second")
        second = registry.register(name, model, hash_directory(model), TAGS)
        for champion, other in ((second, version), (version, second)):
            registry.set_alias(champion, "champion")
            assert self._package(fake, champion)["ModelApprovalStatus"] == "Approved"
            assert self._package(fake, other)["ModelApprovalStatus"] == "PendingManualApproval"
        registry.unset_alias(version, "champion")
        assert [each.is_approved for each in registry.versions(name)] == [False, False]

    def test_a_task_that_died_between_two_versions_left_the_later_one(
        self, registry, name, model, version, monkeypatch
    ) -> None:
        registry.set_alias(version, "champion")
        (model / "scorecard.json").write_text("second")
        second = registry.register(name, model, hash_directory(model), TAGS)
        with monkeypatch.context() as patched:
            patched.setattr(registry, "_take", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                registry.set_alias(second, "champion")
        assert registry.by_alias(name, "champion") == second
        registry.set_alias(second, "champion")
        assert [each.is_approved for each in registry.versions(name)] == [True, False]

    def test_what_people_change_in_the_console_shows(self, fake, registry, name, version) -> None:
        registry.set_alias(version, "champion")
        said, client = self._package(fake, version), fake.client("sagemaker")
        # moto, other than AWS, forgets properties that an update does not repeat.
        client.update_model_package(
            ModelPackageArn=said["ModelPackageArn"],
            ModelApprovalStatus="Rejected",
            CustomerMetadataProperties=said["CustomerMetadataProperties"],
        )
        with pytest.raises(VersionNotFoundError, match="approved version"):
            registry.by_alias(name, "champion")
        client.update_model_package(
            ModelPackageArn=said["ModelPackageArn"],
            ModelApprovalStatus="Approved",
            CustomerMetadataProperties={"theirs": "yes"},
        )
        (shown,) = registry.versions(name)
        assert (shown.is_approved, shown.manifest) == (True, version.manifest)

    def test_a_retry_after_a_kill_before_the_version_completes_it(
        self, registry, name, model, monkeypatch
    ) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(
                registry, "_create", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
            )
            with pytest.raises(KeyboardInterrupt):
                registry.register(name, model, hash_directory(model), TAGS)
        assert registry.versions(name) == []
        assert registry.register(name, model, hash_directory(model), TAGS).version == "1"

    def test_versions_of_others_have_no_manifest_and_are_not_fetched(
        self, fake, registry, name, version, tmp_path
    ) -> None:
        client = fake.client("sagemaker")
        files = {"Image": sagemaker_server.IMAGE, "ModelDataUrl": "s3://bank-mlgov/models/x"}
        client.create_model_package(
            ModelPackageGroupName=name, InferenceSpecification={"Containers": [files]}
        )
        theirs = registry.get(name, "2")
        assert theirs.manifest is None
        with pytest.raises(RegistryError, match="not registered by airflow-mlgov"):
            registry.fetch(theirs, tmp_path / "private")
        elsewhere = SageMakerRegistry(fake.registry_terms(store="s3://bank-mlgov/other"))
        with pytest.raises(RegistryError, match="elsewhere"):
            elsewhere.fetch(version, tmp_path / "private")

    @pytest.mark.parametrize("how", ["truncate", "link", "gone"])
    def test_files_that_changed_in_the_store(self, fake, registry, version, how, tmp_path) -> None:
        bucket, key = self._stored(fake, version)
        s3 = fake.client("s3")
        expected, words = ArtefactError, "cut short"
        if how == "truncate":
            data = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            s3.put_object(Bucket=bucket, Key=key, Body=data[:-9])
        elif how == "link":
            packed, words = io.BytesIO(), "link"
            with tarfile.open(fileobj=packed, mode="w:gz") as tar:
                member = tarfile.TarInfo("scorecard.json")
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
                tar.addfile(member)
            s3.put_object(Bucket=bucket, Key=key, Body=packed.getvalue())
        else:
            s3.delete_object(Bucket=bucket, Key=key)
            expected, words = VersionNotFoundError, "are gone"
        with pytest.raises(expected, match=words):
            registry.fetch(version, tmp_path / "private")

    @pytest.mark.parametrize("bad", ["retail_pd", "a.b", "9lives", "ends-", "x" * 64])
    def test_names_that_sagemaker_cannot_hold(self, registry, model, bad) -> None:
        with pytest.raises(ConfigurationError, match="SageMaker can hold"):
            registry.register(bad, model, hash_directory(model), TAGS)

    def test_check_asks_the_account_and_writes(self, fake, registry) -> None:
        assert sagemaker_server.ACCOUNT in registry.check()
        fake.client("s3").head_object(Bucket=sagemaker_server.BUCKET, Key="models/mlgov-check")
        other = replace(fake.registry_terms(), account="999999999999")
        with pytest.raises(RegistryError, match=r"123456789012.*999999999999"):
            SageMakerRegistry(other).check()
