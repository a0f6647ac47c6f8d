"""What people do in the demo, each step with what must come of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

from demo.client import ApiError
from demo.world import ALIAS, DAG, ENGINEER, MODEL, OWNER, SCORING_DAG, VALIDATOR, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_mlgov.service.ledger import SealedEntry

Outcome = Literal["ok", "refused", "failed"]
COMMENTS = {
    ENGINEER: "I built it and it looks good to me.",
    OWNER: "Gini and calibration meet our appetite; the use stays within its boundaries.",
    VALIDATOR: "Reproduced AUC and PSI independently; the challenger's lead is noted.",
}
WALKED = {"source", "data", "model", "report", "request", "approval", "endpoint"}
"""Kinds of records that a scored batch rests on."""


class StepError(RuntimeError):
    """Something did not come out as it should."""


@dataclass
class Story:
    """What is carried from one step to the next, and what came of them.

    Attributes:
        world: The running demo.
        run: Id of the governed run.
        approvals: Seats and who fills them.
        refusals: What was refused, and why.
        model: Version in use.
        ledger: State of the ledger at the end.
    """

    world: World
    run: str = ""
    approvals: list[dict[str, str]] = field(default_factory=list)
    refusals: list[dict[str, str]] = field(default_factory=list)
    model: dict[str, str] = field(default_factory=dict)
    ledger: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One thing that somebody does.

    Attributes:
        name: Stable name, for ``summary.json``.
        who: Who does it.
        what: What is done, in plain words.
        wanted: What must come of it.
        act: Does it and returns what happened, in plain words; raises if it came out otherwise.
        where: Where to look at it.
    """

    name: str
    who: str
    what: str
    wanted: Outcome
    act: Callable[[Story], str]
    where: str


def train(story: Story) -> str:
    """Trigger the run as the engineer and wait until the gate waits for people."""
    client = story.world.client(ENGINEER)
    story.run = client.trigger(DAG)
    form = story.world.gate_watch().wait(
        DAG, story.run, "gate", timeout_s=600, progress=story.world.say
    )
    return f"Two models trained and validated; the gate asks: {form['subject']}"


def engineer_approves(story: Story) -> str:
    """Let the engineer answer the gate, and see that the vote is not counted."""
    try:
        _answer(story, ENGINEER, "Approve")
    except ApiError as error:
        if error.status != 403:
            raise
    else:
        raise StepError("Airflow took the engineer's own vote")
    refused = [e for e in _entries(story, "approval.vote_refused") if _by(e, ENGINEER)]
    if not refused:
        raise StepError("the ledger holds no refused vote of the engineer")
    reason = "; ".join(refused[-1].body["reasons"])
    story.refusals.append({"what": "the engineer's own approval", "reason": reason})
    return f"Vote refused: {reason}"


def engineer_marks_gate(story: Story) -> str:
    """Mark the gate success by hand, and see it refused, the gate waiting and the attempt kept."""
    client = story.world.client(ENGINEER)
    try:
        client.mark(DAG, story.run, "gate", "success")
    except ApiError as error:
        if error.status != 403:
            raise
        reason = error.detail
    else:
        raise StepError("the gate was marked as success")
    state = client.task(DAG, story.run, "gate")["state"]
    if state != "awaiting_input":
        raise StepError(f"the gate is {state} and does not wait any more")
    attempts = _entries(story, "state.changed_by_hand")
    if not any(e.body["refused"] and _by(e, ENGINEER, "by") for e in attempts):
        raise StepError("the attempt is not in the ledger")
    story.refusals.append({"what": "marking the gate as success by hand", "reason": reason})
    return f"Airflow's api-server answers 403: {reason}"


def engineer_clears_gate(story: Story) -> str:
    """Fail the gate, which anybody may, clear it, and see that it waits for the same request."""
    client = story.world.client(ENGINEER)
    request = _form_request(story)
    # A run that ends before it is cleared ends for lineage, too: its id there changes by clearing.
    client.mark(DAG, story.run, "gate", "failed")
    end = time.monotonic() + 60
    while client.run_state(DAG, story.run) != "failed":
        if time.monotonic() > end:
            raise StepError("the run of the failed gate does not end")
        time.sleep(0.5)
    cleared = client.clear(DAG, story.run, "gate", downstream=True)
    if set(cleared) != {"gate", "promote", "score"}:
        raise StepError(f"cleared {cleared} instead of gate, promote and score")
    story.world.gate_watch().wait(DAG, story.run, "gate", progress=story.world.say)
    if _form_request(story) != request:
        raise StepError("the cleared gate asks for something else than before")
    return f"The gate waits again, for the same request {request[:19]}…"


def owner_approves(story: Story) -> str:
    """Let the owner approve; one seat stays open."""
    _answer(story, OWNER, "Approve")
    form = story.world.gate_watch().wait(DAG, story.run, "gate", progress=story.world.say)
    if not any(_by(e, OWNER) for e in _entries(story, "approval.voted")):
        raise StepError("the ledger holds no vote of the owner")
    return f"Vote on record; the gate waits for the other seat: {form['subject']}"


def validator_approves(story: Story) -> str:
    """Let the validator approve; the gate opens."""
    _answer(story, VALIDATOR, "Approve")
    client = story.world.client(ENGINEER)
    client.wait_for_task(DAG, story.run, "gate", ["success"], progress=story.world.say)
    story.approvals = list(_seats(story))
    if {a["user"] for a in story.approvals} != {OWNER, VALIDATOR}:
        raise StepError(f"the seats are filled by {story.approvals}")
    return "Both seats are filled; the gate opens"


def promote(story: Story) -> str:
    """See the alias move to the approved version."""
    client = story.world.client(ENGINEER)
    client.wait_for_task(DAG, story.run, "promote", ["success"], progress=story.world.say)
    version = _registry(story).get_model_version_by_alias(MODEL, ALIAS)
    promoted = _entries(story, "model.promoted")[-1]
    if promoted.body["registry_version"] != str(version.version):
        raise StepError(
            f"alias {ALIAS} points to {version.version}, the ledger says {promoted.body}"
        )
    story.model = {
        "version": str(version.version),
        "manifest_sha256": promoted.version.hex if promoted.version else "",
        "alias": ALIAS,
    }
    return f"MLflow's alias {ALIAS} points to version {version.version}"


def score(story: Story) -> str:
    """See the guarded scoring task run."""
    client = story.world.client(ENGINEER)
    client.wait_for_task(DAG, story.run, "score", ["success"], progress=story.world.say)
    if not _entries(story, "model.scored"):
        raise StepError("the ledger holds no use of the model")
    return f"{client.xcom(DAG, story.run, 'score'):,} clients scored with the verified files"


def change_one_byte(story: Story) -> str:
    """Change a byte of the promoted model, see scoring refused, and put the byte back."""
    client = story.world.client(ENGINEER)
    before = len(_entries(story, "guard.refused"))
    with _changed_byte(_model_file(story)) as file:
        run = client.trigger(SCORING_DAG)
        client.wait_for_task(SCORING_DAG, run, "score", ["failed"], progress=story.world.say)
    reason = _refusal_after(story, before)
    story.refusals.append({"what": f"scoring with a changed {file.name}", "reason": reason})
    return f"One byte of {file.name} changed: scoring refused: {reason} (the byte was put back)"


def verify_ledger(story: Story) -> str:
    """Write the trust file with the product's own command, and verify the ledger against it."""
    folder = story.world.folder
    trust = str(folder / "trust.json")
    _command(story, "trust", "--file", trust, "--vkey", str(folder / "log.vkey"))
    _command(story, "verify", "--trust", trust)
    checkpoint = story.world.governance().ledger.view().checkpoint
    story.ledger = {
        "entries": checkpoint.size,
        "tree_size": checkpoint.size,
        "root_hash": checkpoint.root_hash,
        "verified": True,
    }
    return f"{checkpoint.size} entries under one signed checkpoint: verified"


def trace_scores(story: Story) -> str:
    """Walk from the scored batch back to the raw file and the approval, and draw it."""
    from airflow_mlgov.wiring import open_outbox

    world = story.world
    world.governance()  # its settings are now this process's
    outbox = open_outbox()
    outbox.take()
    told = [kept.decoded() for kept in outbox.events(0, 10_000)]
    ends = [e for e in told if (e["job"]["name"], e["eventType"]) == (f"{DAG}.score", "COMPLETE")]
    if not ends:
        raise StepError("lineage holds no end of the scoring task")
    (scores,) = ends[-1]["outputs"]
    picture = ("--svg", str(world.folder / "trace.svg"), "--output", "json")
    where = ("--dataset", scores["namespace"], scores["name"])
    done = world.deployment.airflow("mlgov", "trace", *where, *picture)
    if done.returncode:
        raise StepError(f"`airflow mlgov trace` failed:\n{done.stdout}{done.stderr}")
    nodes = json.loads(done.stdout)["nodes"]
    missing = WALKED - {node["kind"] for node in nodes}
    if missing:
        raise StepError(f"the scores do not lead back to any {', '.join(sorted(missing))}")
    source = next(node["name"] for node in nodes if node["kind"] == "source")
    return f"{len(nodes)} steps and records back to {Path(source).name}, nothing missing"


STEPS = (
    Step("train", ENGINEER, "trains and validates two models", "ok", train, "task logs, MLflow"),
    Step(
        *("engineer_approves", ENGINEER, "approves her own model", "refused", engineer_approves),
        "airflow mlgov ledger show",
    ),
    Step(
        *("engineer_marks_gate", ENGINEER, "marks the gate as success", "refused"),
        *(engineer_marks_gate, "airflow mlgov ledger show"),
    ),
    Step(
        *("engineer_clears_gate", ENGINEER, "clears the gate", "ok", engineer_clears_gate),
        "Airflow: Required Actions",
    ),
    Step(
        *("owner_approves", OWNER, "approves, with a comment", "ok", owner_approves),
        "airflow mlgov status retail_pd",
    ),
    Step(
        *("validator_approves", VALIDATOR, "approves, with a comment", "ok", validator_approves),
        "airflow mlgov status retail_pd",
    ),
    Step("promote", "Airflow", "promotes the approved version", "ok", promote, "MLflow"),
    Step("score", "Airflow", "scores the portfolio", "ok", score, "log of task score"),
    Step(
        *("change_one_byte", "an intruder", "changes one byte of the model in use", "refused"),
        *(change_one_byte, "log of DAG retail_pd_scoring"),
    ),
    Step(
        *("verify_ledger", "an auditor", "verifies the ledger", "ok", verify_ledger),
        "airflow mlgov ledger verify",
    ),
    Step(
        *("trace_scores", "an auditor", "walks from the scores back to the raw data", "ok"),
        *(trace_scores, "trace.svg"),
    ),
)


def _command(story: Story, *arguments: str) -> None:
    done = story.world.deployment.airflow("mlgov", "ledger", *arguments)
    if done.returncode:
        command = " ".join(["airflow mlgov ledger", *arguments])
        raise StepError(f"`{command}` failed:\n{done.stdout}{done.stderr}")


def _answer(story: Story, user: str, choice: str) -> None:
    params = {"request": _form_request(story), "comment": COMMENTS[user]}
    story.world.client(user).answer(DAG, story.run, "gate", choice, params)


def _form_request(story: Story) -> str:
    value = story.world.client(ENGINEER).form(DAG, story.run, "gate")["params"]["request"]
    return str(value["value"] if isinstance(value, dict) else value)


def _entries(story: Story, kind: str) -> list[SealedEntry]:
    return story.world.governance().ledger.view().select(kind, model=MODEL)


def _by(entry: SealedEntry, user: str, role: str = "voter") -> bool:
    person = entry.person(role)
    return person is not None and person.id == user


def _refusal_after(story: Story, before: int) -> str:
    refused = _entries(story, "guard.refused")
    if len(refused) <= before:
        raise StepError("the refusal is not in the ledger")
    return str(refused[-1].body["reason"])


def _seats(story: Story) -> Iterator[dict[str, str]]:
    from airflow_mlgov.service.approvals import standings

    gov = story.world.governance()
    for seat in standings(gov, gov.ledger.view(), model=MODEL)[-1].count.seats:
        for vote in seat.votes:
            yield {
                "seat": seat.seat.role,
                "user": vote.voter.id,
                "assurance": str(vote.assurance),
            }


def _registry(story: Story) -> Any:
    import mlflow

    return mlflow.MlflowClient(story.world.mlflow_uri)


def _model_file(story: Story) -> Path:
    client = _registry(story)
    version = client.get_model_version_by_alias(MODEL, ALIAS)
    artefacts = urlsplit(client.get_run(version.run_id).info.artifact_uri)
    files = sorted((Path(unquote(artefacts.path)) / "package" / "model").rglob("*.json"))
    if not files:
        raise StepError(f"no model file under {artefacts.path}")
    return files[0]


@contextmanager
def _changed_byte(file: Path) -> Iterator[Path]:
    original = file.read_bytes()
    middle = len(original) // 2
    changed = bytes([original[middle] ^ 1])
    file.write_bytes(original[:middle] + changed + original[middle + 1 :])
    try:
        yield file
    finally:
        file.write_bytes(original)
