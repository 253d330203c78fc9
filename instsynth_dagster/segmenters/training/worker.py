"""One of several processes that train a run together, started by `segmenters.training.launch` through torchrun."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from instsynth_dagster.artifacts.declared import DeclaredStore
from instsynth_dagster.artifacts.files import write_atomically
from instsynth_dagster.data.dataset import DataSet
from instsynth_dagster.errors import BudgetReached, UserError
from instsynth_dagster.graph import TrainingRun
from instsynth_dagster.segmenters.training.launch import CURVE, JOB, RESULT, Job, fit_run
from instsynth_dagster.segmenters.training.steps import is_first_process, report_steps
from instsynth_dagster.settings import SegmenterSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    arguments = parser.parse_args()
    first = is_first_process()
    job = Job(**json.loads((arguments.scratch / JOB).read_text()))
    recipe = SegmenterSettings.model_validate(job.recipe)
    try:
        result = fit_run(
            TrainingRun.parse(job.run),
            recipe,
            job.classes,
            DataSet.at(job.data),
            DeclaredStore.at(job.store),
            out=arguments.out,
            scratch=arguments.scratch,
            device=arguments.device,
            progress=report_steps() if first else None,
        )
    except BudgetReached:
        return  # the starting process reports it
    except UserError as error:
        sys.exit(str(error))
    if first:
        result.curve.to_parquet(arguments.scratch / CURVE)
        costs = json.dumps({"seconds": result.seconds, "peak_memory": result.peak_memory})
        write_atomically(arguments.scratch / RESULT, costs.encode())


if __name__ == "__main__":
    main()
