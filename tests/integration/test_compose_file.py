"""docker-compose.yml as Debian's docker-compose understands it: who gets what, and nothing more.

No container is started here: `tests/long/test_deployment.py` starts the same parts without.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import stat
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from composed import COMPOSE, ROOT, SECRETS, dependencies_of, mounts_of, read_config, secrets_of
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DEPLOY = ROOT / "deploy"
ONCE = {"roles", "airflow-tables", "ledger-tables", "keys"}
KEYS = {
    # What runs where, and what it may hold: role in the ledger's database, keys.
    "api-server": ("writer", {"attestor.key"}),
    "scheduler": ("writer", {"writer.key"}),
    "worker": ("writer", {"writer.key"}),
    "triggerer": ("reader", set()),
    "sequencer": ("sequencer", {"log.key"}),
    "dag-processor": (None, set()),
    "ledger-tables": ("owner", set()),
    "keys": ("sequencer", set()),  # makes all three, and is started by hand only
}
AIRFLOWS = {
    # Secrets of Airflow's own, by the process that cannot do without.
    "api-server": {"airflow_db_password", "api_secret_key", "jwt_secret", "fernet_key"},
    "scheduler": {"airflow_db_password", "redis_password", "jwt_secret", "fernet_key"},
    "dag-processor": {"airflow_db_password"},
    "triggerer": {"airflow_db_password", "fernet_key"},
    "worker": {"redis_password"},
    "sequencer": {"marquez_write_token"},
    "airflow-tables": {"airflow_db_password"},
    "ledger-tables": set(),
    "keys": set(),
}
ROLE_OF = re.compile(r"//mlgov_(\w+):\$\(cat /run/secrets/ledger_(\w+)_password\)@")


def program() -> str:
    if found := shutil.which("docker-compose"):
        return found
    if os.environ.get("CI"):
        pytest.fail("docker-compose is not installed: the compose file cannot be checked.")
    pytest.skip("docker-compose is not installed: the compose file is not checked.")


@lru_cache(maxsize=1)
def config() -> dict[str, Any]:
    return read_config(program())


def services() -> dict[str, dict[str, Any]]:
    return dict(config()["services"])


def test_compose_takes_the_file_without_any_variable() -> None:
    assert config()["services"].keys() >= ONCE | KEYS.keys()


def test_what_runs_all_the_time_is_watched_and_restarted() -> None:
    for name, service in services().items():
        assert ("healthcheck" in service) == (name not in ONCE), name
        assert (service.get("restart") == "unless-stopped") == (name not in ONCE), name


def test_nothing_waits_for_the_health_of_what_has_no_check() -> None:
    for name, service in services().items():
        for other, condition in dependencies_of(service).items():
            wanted = {"service_completed_successfully"} if other in ONCE else {
                "service_healthy", "service_started"}  # fmt: skip
            assert condition in wanted, f"{name} waits for {other}"


def test_each_image_is_pinned_and_can_be_replaced_by_a_digest() -> None:
    raw = yaml.safe_load(COMPOSE.read_text())["services"]
    for name, service in raw.items():
        found = re.fullmatch(r"\$\{[A-Z_]+_IMAGE:-[a-z/-]+:\d+\.\d+(\.\d+)?\}", service["image"])
        assert found, f"{name}: {service['image']}"
    for name in ("airflow", "mlflow"):
        file = DEPLOY / name / "Dockerfile"
        (image,) = re.findall(r"^ARG \w+_IMAGE=(\S+)$", file.read_text(), flags=re.MULTILINE)
        assert re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+-[a-z0-9.]+", image)
        assert re.findall(r"^FROM (.*)$", file.read_text(), flags=re.MULTILINE)[0].startswith("${")


def test_the_images_hold_versions_that_are_pinned_and_agree_with_the_base_image() -> None:
    lines = (ROOT / "constraints" / "py311.txt").read_text().splitlines()
    pins = {
        canonicalize_name(Requirement(line).name): next(iter(Requirement(line).specifier)).version
        for line in lines
        if line and not line.startswith("#")
    }
    for file in DEPLOY.glob("*/requirements.txt"):
        for line in file.read_text().splitlines():
            if not line.startswith("#"):
                wanted = Requirement(line)
                assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), line
    base = re.search(r"apache/airflow:([\d.]+)-", (DEPLOY / "airflow" / "Dockerfile").read_text())
    assert base is not None
    assert base[1] == pins["apache-airflow"]


def test_no_port_is_published_beyond_this_machine() -> None:
    published = {name: each["ports"] for name, each in services().items() if "ports" in each}
    assert published.keys() == {"door", "api-server"}
    for ports in published.values():
        for port in ports:
            text = port if isinstance(port, str) else f"{port['host_ip']}:{port['published']}:"
            assert text.startswith("127.0.0.1:")


def test_networks_keep_marquez_behind_its_door_and_stores_inside() -> None:
    networks = {name: set(each["networks"]) for name, each in services().items()}
    assert {name for name, each in networks.items() if "lineage" in each} == {
        "marquez-db", "marquez", "marquez-web", "door"}  # fmt: skip
    assert {name for name, each in networks.items() if "outside" in each} == {
        "door", "api-server", "worker", "triggerer", "sequencer"}  # fmt: skip
    known = config()["networks"]
    assert known["inside"]["internal"]
    assert known["lineage"]["internal"]


@pytest.mark.parametrize("name", sorted(KEYS))
def test_a_process_is_given_the_keys_and_the_role_of_its_part_and_no_others(name: str) -> None:
    role, keys = KEYS[name]
    service = services()[name]
    given = set(secrets_of(service))
    trust = {"trust.json"} if name not in ("dag-processor", "ledger-tables", "keys") else set()
    password = {f"ledger_{role}_password"} if role else set()
    assert given == keys | trust | password | AIRFLOWS[name]
    url = service["environment"].get("AIRFLOW__MLGOV__LEDGER_URL_CMD", "")
    assert ROLE_OF.findall(url) == ([(role, role)] if role else [])


def test_only_the_service_that_is_started_by_hand_sees_the_folder_of_keys() -> None:
    seen = {
        name
        for name, each in services().items()
        for source, _, _ in mounts_of(each)
        if Path(source).is_absolute()
        and (Path(source).is_relative_to(SECRETS) or SECRETS.is_relative_to(Path(source)))
    }
    assert seen == {"keys"}
    assert services()["keys"]["profiles"] == ["setup"]


def test_a_process_with_a_trust_file_is_told_of_it_and_where_its_keys_are() -> None:
    for name, service in services().items():
        settings = service.get("environment", {})
        if "trust.json" in secrets_of(service):
            assert settings["AIRFLOW__MLGOV__TRUST_PATH"] == "/run/secrets/trust.json", name
            assert settings["AIRFLOW__MLGOV__KEYS_DIR"] == "/run/secrets", name


def test_every_secret_is_a_file_that_is_made_for_those_who_read_it() -> None:
    declared = {
        name: Path(each["file"]).relative_to(SECRETS) for name, each in config()["secrets"].items()
    }
    made = {Path(name) for name in (*maker().HEX, "fernet_key")}
    of_keys = {Path("ledger") / name for name in declared if "." in name}
    assert set(declared.values()) == made | of_keys
    for name, service in services().items():
        text = yaml.safe_dump({key: value for key, value in service.items() if key != "secrets"})
        read = {each for each in re.findall(r"/run/secrets/([\w.]+)", text) if each != "trust.json"}
        read |= set(secrets_of(service)) if name == "roles" else set()
        held = {each for each in secrets_of(service) if not re.search(r"\.(key|json)$", each)}
        assert read == held, f"{name} reads {read} and is given {held}"
    assert set(secrets_of(services()["roles"])) == {
        path.name for path in made if path.name.endswith("_password")
    } - {"redis_password", "marquez_db_password"}


def test_no_password_stands_in_the_file() -> None:
    for name, service in services().items():
        for key, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|TOKEN|FERNET|CONN(_|$)|URL_CMD|BACKEND", key):
                says_where = "/run/secrets" in value or "mlflow:5000" in value
                assert says_where or value.startswith("http://127.0.0.1"), f"{name}: {key}"
    assert not re.findall(r"://\w*:(?!\$\$)[^/\s\"']+@", COMPOSE.read_text())
    asked = set(re.findall(r"(?<!\$)\$\{(\w+)", COMPOSE.read_text()))
    assert not [each for each in asked if re.search("PASSWORD|SECRET|TOKEN|KEY", each)]


def test_marquez_and_its_door_are_told_what_their_files_ask_for() -> None:
    for name, file in (
        ("door", DEPLOY / "nginx" / "marquez.conf.template"),
        ("marquez", DEPLOY / "marquez" / "marquez.yml"),
    ):
        used = {part.partition("}")[0] for part in file.read_text().split("${")[1:]}
        script = services()[name]["entrypoint"][-1]
        exported = set(re.findall(r"export (\w+)", script))
        assert used <= services()[name]["environment"].keys() | exported


@pytest.mark.parametrize("name", ["door", "marquez", "mlflow", "redis", "sequencer"])
@pytest.mark.parametrize("token", [None, "", "abc"])
def test_a_part_without_its_secret_does_not_start(
    tmp_path: Path, name: str, token: str | None
) -> None:
    service = services()[name]
    for secret in secrets_of(service):
        if token is not None:
            (tmp_path / secret).write_text(token)
    script = (service.get("entrypoint") or service["command"])[-1]
    script = script.replace("/run/secrets", str(tmp_path)).replace("/run/redis", str(tmp_path))
    shell = (service.get("entrypoint") or service["command"])[0]
    script = re.sub(r"exec .*", "echo started", script, flags=re.DOTALL)
    done = subprocess.run([shell, "-euc", script], capture_output=True, text=True, check=False)
    assert (done.stdout == "started\n") == (done.returncode == 0) == (token == "abc"), done.stderr


def maker() -> Any:
    spec = importlib.util.spec_from_file_location("make_secrets", DEPLOY / "make_secrets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_secrets_are_made_once_and_for_their_owner_only(tmp_path: Path) -> None:
    folder, settings = tmp_path / "secrets", tmp_path / ".env"
    made = maker().main(folder, settings)
    before = {name: (folder / name).read_text() for name in made}
    assert len(set(before.values())) == len(made)
    assert all(len(value) >= 44 for value in before.values())
    (folder / "redis_password").unlink()
    assert maker().main(folder, settings) == ["redis_password"]
    after = {name: (folder / name).read_text() for name in made}
    assert {name for name in made if after[name] != before[name]} == {"redis_password"}
    for path in folder.iterdir():
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted
        assert settings.read_text() == f"AIRFLOW_UID={path.stat().st_uid}\n"


def test_no_secret_gets_into_git_or_an_image() -> None:
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/deploy/secrets/", "/.env"} <= set(ignored)
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] != "#"]
    assert lines[0] == "*"
    allowed = [Path(line[1:]) for line in lines if line.startswith("!")]
    assert all((ROOT / path).exists() for path in allowed)
    assert not [path for path in allowed if SECRETS.is_relative_to(ROOT / path)]
    for name in ("airflow", "mlflow"):
        file = DEPLOY / name / "Dockerfile"
        for line in re.findall(r"^COPY (?:--\S+ )?(.+) \S+$", file.read_text(), re.MULTILINE):
            for part in line.split():
                assert part == "." or Path(part).parts[0] in {each.parts[0] for each in allowed}
