"""`labelwise compare`: tests the paper's claims on your labels, with several seeds and one budget per method."""

from training.compare.outcome import claims, table, write_results
from training.compare.runs import METHODS, VARIANTS, Comparison, Run
from training.pretrained import describe_input
from training.processes import run_all, threads_of_each
from training.signals import Stopped

__all__ = ["METHODS", "VARIANTS", "Comparison", "Run", "claims", "compare", "table"]


def compare(comparison: Comparison, jobs: int = 1) -> list[Run]:
    """Train what is missing, `jobs` runs at a time on the cores shared between them; write results.{json,md,svg}.

    Checks and describes the data first; the runs are quiet. A comparison that was stopped continues where it was.
    Raises Stopped on Ctrl-C and SIGTERM, and LabelwiseError.
    """
    tasks, threads = comparison.tasks(), threads_of_each(jobs)
    comparison.check_data()
    runs: list[Run] = []
    print(describe_input(comparison.config(*tasks[0])), flush=True)

    def keep(run: Run) -> None:
        runs.append(run)
        said = f"{run.method}, seed {run.seed}: mAP {run.metrics['mAP']:.4f} after {run.seconds / 60:.1f} min"
        print(f"{len(runs)} of {len(tasks)}: {said}", flush=True)

    try:
        run_all(comparison.train, tasks, jobs, threads, keep)
    except Stopped as stopped:
        raise Stopped("Stopped; the same command goes on.") from stopped
    runs.sort(key=lambda run: (comparison.methods.index(run.method), run.seed))
    write_results(
        comparison, runs, f"{jobs} run{'s' * (jobs > 1)} at a time, {threads} thread{'s' * (threads > 1)} each"
    )
    return runs
