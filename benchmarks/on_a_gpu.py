"""Everything that is worth measuring on a GPU, one after the other, with the card's name.

1. `first_run.py`: the whole of `profiles/cityscapes.yaml` at published sizes and random weights.
2. `make doctor CALIBRATE=1` on it: seconds a crop and a training step beside the estimate of memory.
3. Seconds a step and peak memory of each segmenter in the run of 1, its loader included.
4. `generators.py --real-size`: images a second, plain and with compiled blocks.

python benchmarks/on_a_gpu.py --keep /tmp/first_run
python benchmarks/on_a_gpu.py --device cpu --small        that it runs at all
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from first_run import PARAMS, environment_of

from assets import build_graph
from instsynth_dagster.artifacts.store import open_store
from instsynth_dagster.settings import load_settings

HERE = Path(__file__).parent
NOT_MEASURED = """not measured here: speed and memory of published sizes on a GPU, half precision, compiled blocks"""


def run(title: str, command: list[str], environment: dict[str, str]) -> bool:
    """Run a command of Python and say so; whether it ended well."""
    print(f"\n## {title}\n$ python {' '.join(command)}", flush=True)
    return subprocess.run([sys.executable, *command], env=os.environ | environment, check=False).returncode == 0


def segmenters(place: Path) -> pd.DataFrame:
    """Seconds a step and peak memory of every training that the store of a first run holds."""
    settings = load_settings(place / PARAMS)
    store, trainings = open_store(settings), build_graph(settings)["trained_segmenters"].partitions
    made = {run: store.manifest("trained_segmenters", run) for run in trainings}
    found = {run: manifest.summary for run, manifest in made.items() if manifest}
    columns = ["seconds_per_step", "peak_memory_mb"]
    return pd.DataFrame.from_dict(found, orient="index").reindex(columns=columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--small", action="store_true", help="narrow models and small pictures")
    parser.add_argument("--crops", type=int, default=16, help="for each generator")
    parser.add_argument("--keep", type=Path, help="a folder to work in, which stays")
    given = parser.parse_args()
    on_gpu = given.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        raise SystemExit("on_a_gpu: no GPU is there; --device cpu --small shows that everything runs")
    print(torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads; {NOT_MEASURED}")
    how = ["--device", given.device, *(["--small"] if given.small else [])]
    real = [str(HERE / "generators.py"), "--real-size", "--crops", str(given.crops), *how]
    real += [] if on_gpu else ["--dtype", "float32"]
    with TemporaryDirectory() as temporary:
        place = given.keep or Path(temporary)
        well = [
            run("First run", [str(HERE / "first_run.py"), *how, "--keep", str(place)], {}),
            run("Doctor", ["-m", "jobs.doctor", "--calibrate"], environment_of(place)),
        ]
        print(f"\n## Trainings of the first run\n{segmenters(place).to_string()}", flush=True)
        well.append(run("Generators", real, {}))
        if on_gpu:
            well.append(run("Generators, compiled", [*real, "--compile"], {}))
    if not all(well):
        raise SystemExit(f"on_a_gpu: {well.count(False)} of {len(well)} parts ended with an error")


if __name__ == "__main__":
    main()
