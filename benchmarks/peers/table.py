"""The tables of a run, in Markdown."""

import statistics
from collections.abc import Iterable, Sequence

from benchmarks.peers.contestants import Contestant
from benchmarks.peers.environments import version_of
from benchmarks.peers.load import Window
from benchmarks.peers.turns import CONNECTIONS, OVERLOAD, BareLoop, Turn, ratio
from labelwise.version import VERSION

Results = dict[Contestant, list[Turn]]


def tables(bare: dict[int, list[BareLoop]], results: Results, left_out: dict[Contestant, str]) -> str:
    parts = [_throughput(bare, results), _latency(results), _overload(results), _goals(results)]
    parts.append(f"Versions: {_versions([*results, *left_out])}.")
    parts += [f"Not measured: {one.title}: {reason}." for one, reason in left_out.items()]
    return "\n\n".join(part for part in parts if part)


def _throughput(bare: dict[int, list[BareLoop]], results: Results) -> str:
    head = (
        *("server", *(f"images/s at {n}" for n in CONNECTIONS)),
        *("of the bare loop of batch 8, at 16", "at 64", "CPU ms per image at 16", "memory, MiB", "cold start, s"),
    )
    rows = [
        (
            *(f"bare loop, batch {batch}", f"{_middle(loop.rate for loop in loops):.1f}", "", "", "", "", ""),
            *(f"{_middle(loop.cpu for loop in loops):.1f}", f"{_middle(loop.memory for loop in loops):.0f}", ""),
        )
        for batch, loops in bare.items()
        if loops
    ]
    for contestant, turns in results.items():
        rows.append(
            (
                contestant.title,
                *(f"{_middle(turn.windows[n].rate for turn in turns):.1f}" for n in CONNECTIONS),
                *(_spread([turn.share(n) for turn in turns]) for n in (16, 64)),
                f"{_middle(turn.cpu_per_image(16) for turn in turns):.1f}",
                f"{max(turn.memory for turn in turns):.0f}",
                f"{_middle(turn.cold_start for turn in turns):.1f}",
            )
        )
    return markdown(head, rows)


def _latency(results: Results) -> str:
    head = ("server", *(f"p50 / p99 ms at {n}" for n in (*CONNECTIONS, OVERLOAD)))
    rows = [
        (contestant.title, *(_latencies([turn.windows[n] for turn in turns]) for n in (*CONNECTIONS, OVERLOAD)))
        for contestant, turns in results.items()
    ]
    return markdown(head, rows)


def _overload(results: Results) -> str:
    head = (
        *("server", f"200s/s at {OVERLOAD}", "of its own rate at 16", "refused", "CPU ms per 200"),
        "answers that failed, at any number of connections",
    )
    rows = [
        (
            contestant.title,
            f"{_middle(turn.windows[OVERLOAD].rate for turn in turns):.1f}",
            _spread([ratio(turn.windows[OVERLOAD].rate, turn.windows[16].rate) for turn in turns]),
            f"{100 * _middle(turn.windows[OVERLOAD].refused_share for turn in turns):.0f} %",
            f"{_middle(turn.cpu_per_image(OVERLOAD) for turn in turns):.1f}",
            str(sum(window.failed for turn in turns for window in turn.windows.values())),
        )
        for contestant, turns in results.items()
    ]
    return markdown(head, rows)


def _goals(results: Results) -> str:
    """Compares labelwise with what it should be ahead of, within each round and by the bare loop beside each turn."""
    turns = {contestant.key: found for contestant, found in results.items()}
    peers = {contestant.key: turns[contestant.key] for contestant in results if contestant.is_python_peer}
    rows = []
    for n in (16, 64):
        if ours := turns.get("labelwise"):
            shares, by_cpu = [turn.share(n) for turn in ours], [turn.share_by_cpu(n) for turn in ours]
            rows.append(("labelwise", "bare loop, batch 8", n, "0.95", _spread(shares), _spread(by_cpu)))
        best = max(peers, key=lambda key: _middle(turn.share(n) for turn in peers[key]), default="")
        for key, other, goal in (
            ("labelwise", best, "1.05"),
            ("labelwise-default", best, "2.00"),
            ("labelwise-triton", "triton", "0.95"),
        ):
            if key in turns and other in turns:
                pairs = list(zip(turns[key], turns[other], strict=True))
                shares = [ratio(ours.share(n), theirs.share(n)) for ours, theirs in pairs]
                by_cpu = [ratio(ours.share_by_cpu(n), theirs.share_by_cpu(n)) for ours, theirs in pairs]
                rows.append((key, other, n, goal, _spread(shares), _spread(by_cpu)))
    head = ("throughput of", "as a share of that of", "at", "goal", "measured", "by CPU time")
    return markdown(head, rows) if rows else ""


def _versions(contestants: Iterable[Contestant]) -> str:
    pins = {one.package: version_of(one.package, one.environment) for one in contestants if one.environment}
    return ", ".join(f"{package} {version}" for package, version in {"labelwise": VERSION, **pins}.items())


def _latencies(windows: Sequence[Window]) -> str:
    """Returns the median and the 99th percentile of all rounds together, in ms."""
    found = sorted(latency for window in windows for latency in (*window.latencies, *window.waiting))
    if not found:
        return "none"
    p50, p99 = (1000 * found[int(share * (len(found) - 1))] for share in (0.5, 0.99))
    return f"{p50:.0f} / {p99:.0f}"


def _middle(values: Iterable[float]) -> float:
    return statistics.median(values)


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def markdown(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
