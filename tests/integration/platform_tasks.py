"""A task of Airflow, as the contract of platforms drives it: training or scoring."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from airflow_mlgov.errors import MlgovError, ScoringError, TrainingError
from airflow_mlgov.records.source import Source
from airflow_mlgov.service.conditions import Rows
from airflow_mlgov.service.job_scoring import JobScoring
from airflow_mlgov.service.job_watch import JobWatch
from airflow_mlgov.service.jobs import JobTraining
from airflow_mlgov.service.promote import promote
from airflow_mlgov.service.scoring_order import ScoringOrder, read_data
from airflow_mlgov.service.training_order import TrainingOrder, read_order
from airflow_mlgov.wiring import open_jobs, open_scoring
from tests.unit.service.conftest import make_world

TRAINING = """\
import json, os, pathlib
import beside
job = json.load(open(os.environ["MLGOV_JOB_FILE"]))
out = pathlib.Path(os.environ["MLGOV_OUTPUT_DIR"])
(out / "model").mkdir()
data = pathlib.Path(os.environ["MLGOV_INPUT_DEVELOPMENT"]).read_text()
(out / "model" / "scorecard.json").write_text(json.dumps([job["seed"], job["parameters"], data]))
(out / "model" / "deep").mkdir()
(out / "model" / "deep" / "er.txt").write_text(beside.WORD)
(out / "metrics.json").write_text('{"auc": 0.77}')
signature = {"inputs": [{"name": "PAY_0", "type": "long"}], "output": "pd"}
(out / "signature.json").write_text(json.dumps(signature))
print("trained on", len(data), "characters")
"""
SCORING = """\
import csv, json, os, pathlib
import beside
job = json.load(open(os.environ["MLGOV_JOB_FILE"]))
points = json.loads((pathlib.Path(job["inputs"]["model"]) / "scorecard.json").read_text())
rows = list(csv.DictReader(open(os.environ["MLGOV_INPUT_DATA"])))
with open(os.environ["MLGOV_OUTPUT_DIR"] + "/scores.csv", "w") as out:
    out.write("id,pd\\n")
    for row in rows:
        out.write(f"{row['id']},{int(row['PAY_0']) * job['parameters']['rate']}\\n")
print("scored", len(rows), "rows with", points)
"""


class Task:
    """A task of Airflow that is tried again and again; each try is a process with no memory.

    A subclass says what it does.
    """

    failure: type[MlgovError]
    done: str
    script: str

    def __init__(self, fake, folder: Path) -> None:
        self.world = make_world(folder, "L1")
        self.fake = fake
        self.terms = replace(fake.terms(), poll_s=0.01, outage_s=5.0)
        self.log: list[str] = []
        self.code = folder / "code"
        self.code.mkdir()
        (self.code / "script.py").write_text(self.script)
        (self.code / "beside.py").write_text('WORD = "beside"\n')
        self.source = Source("retail_pd", "run-7", "work", -1, 0)
        self.parameters = {"rate": 2}

    def new_run(self, run_id: str) -> None:
        self.source = replace(self.source, run_id=run_id, try_number=0)

    def work(self):
        """Return the next try."""
        self.source = replace(self.source, try_number=self.source.try_number + 1)
        return self.work_of(self.terms)

    def sleep(self, seconds: float) -> None:
        self.world.clock.moment += timedelta(seconds=seconds)

    def start(self):
        return self.work().start()

    def wait(self, handle):
        watch = JobWatch(self.platform(), handle, 0.01, self.terms.outage_s)
        while True:
            look = watch.look()
            if look.status is not None and look.status.state.ended:
                return look.status

    def run(self):
        """Do all of it, as one try that nothing happens to."""
        handle = self.start()
        self.wait(handle)
        return self.finish(handle)

    def run_until_done(self, tries: int = 6):
        """Let Airflow retry what a retry may help; return what comes of it."""
        for _ in range(tries):
            try:
                return self.run()
            except MlgovError as error:
                if not error.retryable:
                    raise
        raise AssertionError(f"not done after {tries} tries")

    def kinds(self, kind: str):
        return self.world.gov.ledger.view().select(kind)


class TrainingTask(Task):
    failure = TrainingError
    done = "model.trained"
    script = TRAINING

    def __init__(self, fake, folder: Path) -> None:
        super().__init__(fake, folder)
        self.data = folder / "dev.csv"
        self.data.write_text("PAY_0,DEFAULT\n1,0\n")

    @property
    def order(self) -> TrainingOrder:
        return TrainingOrder(
            model="retail_pd",
            script=self.code / "script.py",
            inputs={"development": str(self.data)},
            parameters=self.parameters,
            seed=42,
            source=self.source,
        )

    def work_of(self, terms) -> JobTraining:
        jobs = open_jobs(terms)
        return JobTraining(self.order, self.world.gov, terms, jobs, self.log.append, self.sleep)

    def asked(self, work: JobTraining):
        return work._asked(read_order(work.order))

    def platform(self):
        return open_jobs(self.terms)

    def finish(self, handle):
        return self.work().finish(handle, self.world.registry)


class ScoringTask(Task):
    failure = ScoringError
    done = "batch.scored"
    script = SCORING

    def __init__(self, fake, folder: Path) -> None:
        super().__init__(fake, folder)
        world = self.world
        world.validate_data()
        world.train()
        world.validate_model()
        world.approve(world.ask())
        promote(world.gov, world.registry, world.use())
        self.output = folder / "scores"
        self.data = [folder / "june.csv", folder / "july.csv"]
        self.data[0].write_text("id,PAY_0\na,1\nb,2\n")
        self.data[1].write_text("id,PAY_0\nc,3\n")

    @property
    def order(self) -> ScoringOrder:
        return ScoringOrder(
            use=replace(self.world.use("score"), source=self.source),
            script=self.code / "script.py",
            data=[str(file) for file in self.data],
            output=self.output,
            parameters=self.parameters,
        )

    def work_of(self, terms) -> JobScoring:
        world, jobs = self.world, open_scoring(terms)
        return JobScoring(
            self.order, world.gov, world.registry, terms, jobs, _no_rows, self.log.append,
            self.sleep,
        )  # fmt: skip

    def asked(self, work: JobScoring):
        data = read_data(work.order, work.jobs.located)
        return work._asked(self.world.version, data, self.world.model_dir)

    def platform(self):
        return open_scoring(self.terms)

    def finish(self, handle):
        return self.work().finish(handle)


def _no_rows(data, columns) -> Rows:
    raise AssertionError("no condition is about rows")


TASKS = {"training": TrainingTask, "scoring": ScoringTask}
