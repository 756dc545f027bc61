"""gpu.md: the tables of a run, and under each what is not available and why."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.gpu.tasks import Results, Row
from benchmarks.peers.table import markdown

_GPU_DEVICES = ("cuda", "tensorrt", "tensorrt-rtx")


def report(facts: dict[str, Any], doctor: dict[str, Any], results: Results) -> str:
    parts = ["# On a GPU", _introduction(facts, doctor, results)]
    sections: list[tuple[str, str, Callable[[Results], str]]] = [
        ("What there is: `labelwise doctor`", "doctor", lambda _: _doctor(doctor)),
        ("Taggers", "subjects", _taggers),
        ("Engine", "engine", _engine),
        ("Share of the roofline", "roofline", _roofline),
        ("Parity with the CPU in fp32", "parity", _parity),
        ("Decoding, and the server end to end", "end_to_end", _end_to_end),
        ("Training", "training", _training),
        ("Memory", "memory", _memory),
    ]
    for title, part, section in sections:
        missing = [f"- not available: {what}: {reason}" for name, what, reason in results.missing if name == part]
        parts += [f"## {title}", section(results), "\n".join(missing)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _introduction(facts: dict[str, Any], doctor: dict[str, Any], results: Results) -> str:
    found = {one["subject"]: one["found"] for one in doctor["findings"]}
    on_gpu = any(row.get("device") in _GPU_DEVICES for row in results.of("engine"))
    where = f"GPU: {found.get('GPUs', 'unknown')}" if on_gpu else "**CPU only: this says nothing about a GPU**"
    text = [
        f"{where}. Cores: {found.get('cores', 'unknown')}. ONNX Runtime {found.get('ONNX Runtime', 'unknown')}.",
        f"labelwise {found.get('labelwise', 'unknown')}. {facts['date']}, `python -m benchmarks.gpu`, "
        f"{facts['minutes']:.1f} minutes.",
    ]
    if facts["quick"]:
        text.append("**Made with --quick: this tries the command, and its numbers mean nothing.**")
    return "\n".join(text)


def _doctor(doctor: dict[str, Any]) -> str:
    signs = {True: "works", False: "does not work", None: ""}
    return _table(
        ("", "found", ""), ((one["subject"], one["found"], signs[one["works"]]) for one in doctor["findings"])
    )


def _taggers(results: Results) -> str:
    rows = [
        (row["tagger"], row["backbone"], f"{row['multiply_adds'] / 1e9:.2f}", f"{row['input_bytes'] / 1000:.0f}")
        for row in results.of("work")
    ]
    return _table(("tagger", "backbone", "multiply-adds of one photo, 10⁹", "its bytes, 10³"), rows)


def _engine(results: Results) -> str:
    """One table for each tagger: a row for each device and precision, a column for each batch."""
    rows = results.of("engine")
    parts = [
        "Images/s, and below them the 99th percentile of a batch in ms. On a GPU two batches are under way at once, "
        "on a CPU one per core."
    ]
    for tagger in _unique(row["tagger"] for row in rows):
        own = [row for row in rows if row["tagger"] == tagger]
        batches = sorted({row["batch"] for row in own})
        cells = {(row["device"], row["precision"], row["batch"]): _rate_and_p99(row) for row in own}
        ways = _unique((row["device"], row["precision"]) for row in own)
        lines = [(*way, *(cells.get((*way, batch), "") for batch in batches)) for way in ways]
        parts.append(f"**{tagger}**, by batch:\n\n" + _table(("device", "precision", *batches), lines))
    parts += [f"- {row['what']}" for row in results.of("note")]
    return "\n\n".join(parts) if rows else ""


def _rate_and_p99(row: Row) -> str:
    return f"{row['images_per_second']:.1f}<br>{row['p99_ms']:.1f}"


def _roofline(results: Results) -> str:
    """The roofline is the lower of two rates: computing a photo's multiply-adds, and copying its bytes."""
    rates = [
        (
            *(row["device"], row["precision"], f"{row['multiply_adds_per_second'] / 1e12:.3f}"),
            f"{row['copied_bytes_per_second'] / 1e9:.1f}" if row["copied_bytes_per_second"] else "",
        )
        for row in results.of("roofline")
    ]
    shares = [line for row in _best(results) if (line := _share(results, row))]
    head = ("tagger", "device", "precision", "roofline, images/s", "limited by", "engine, images/s", "batch", "share")
    parts = [
        "Measured in the same run: products of large matrices in ONNX Runtime, and copies from pinned memory. A "
        "network that reads and writes its activations cannot reach the rate of large matrices in every layer.",
        _table(("device", "precision", "multiply-adds/s, 10¹²", "copied to it, GB/s"), rates),
        _table(head, shares),
    ]
    return "\n\n".join(part for part in parts if part) if rates else ""


def _best(results: Results) -> list[Row]:
    """The fastest batch of each tagger, device and precision."""
    best: dict[tuple[str, str, str], Row] = {}
    for row in results.of("engine"):
        way = (row["tagger"], row["device"], row["precision"])
        if way not in best or row["images_per_second"] > best[way]["images_per_second"]:
            best[way] = row
    return list(best.values())


def _share(results: Results, row: Row) -> Sequence[object]:
    """Of the chip's roofline in the row's precision, by whichever device reached it; empty if it was not measured."""
    is_cpu = row["device"] == "cpu"
    roofs = [roof for roof in results.of("roofline", precision=row["precision"]) if is_cpu == (roof["device"] == "cpu")]
    works = results.of("work", tagger=row["tagger"])
    if not roofs or not works:
        return ()
    limits = {"multiplying": max(roof["multiply_adds_per_second"] for roof in roofs) / works[0]["multiply_adds"]}
    if not is_cpu:
        limits["copying"] = max(roof["copied_bytes_per_second"] for roof in roofs) / works[0]["input_bytes"]
    limit = min(limits, key=lambda name: limits[name])
    speed, roof = row["images_per_second"], limits[limit]
    way = (row["tagger"], row["device"], row["precision"])
    return (*way, f"{roof:.0f}", limit, f"{speed:.0f}", row["batch"], f"{100 * speed / roof:.0f} %")


def _parity(results: Results) -> str:
    names = ("tagger", "device", "precision", "photos")
    rows = [
        (*(row[name] for name in names), f"{row['largest']:.6f}", f"{row['mean']:.6f}", row["changed_tags"])
        for row in results.of("parity")
    ]
    return _table((*names, "largest difference of a score", "mean", "tags that change"), rows)


def _end_to_end(results: Results) -> str:
    names = ("way", "device", "precision", "decode", "workers", "clients")
    rows = [
        (
            *(row[name] for name in names),
            *(f"{row['images_per_second']:.1f}", _number(row["p50_ms"]), _number(row["p99_ms"])),
            *(row["failed"] + row["refused"], f"{row['server_cores']:.1f}", f"{100 * row['client_core_busy']:.0f} %"),
        )
        for row in results.of("end_to_end")
    ]
    head = (*names, "images/s", "p50 ms", "p99 ms", "not answered", "cores busy", "the clients' core busy")
    return "\n\n".join(part for part in (_decoding(results), _table(head, rows)) if part)


def _decoding(results: Results) -> str:
    names = ("where", "photos", "threads")
    rows = [
        (
            *(row[name] for name in names),
            *(f"{row['images_per_second']:.1f}", f"{row['pixels_mean']:.2f} / {row['pixels_most']}"),
            *(f"{row['scores_largest']:.4f}", row["left_to_cpu"]),
        )
        for row in results.of("decoding")
    ]
    head = (
        "decoded on",
        *names[1:],
        "images/s",
        "pixels' difference",
        "largest of a score, at most 0.01",
        "left to the CPU",
    )
    parts = [
        "Decoding alone. Differences are from the CPU's pixels (mean / largest, of 255) and scores (goal: 0.01).",
        _table(head, rows),
    ]
    parts += [
        f"Cut-off files that only one of {row['where'].upper()} and CPU refuses: {row['disagreements']}."
        for row in results.of("damaged")
    ]
    return "\n\n".join(parts) if rows else ""


def _training(results: Results) -> str:
    names = ("network", "device", "precision", "batch", "compiled", "what")
    rows = [(*(row[name] for name in names), f"{row['images_per_second']:.1f}") for row in results.of("training")]
    return _table((*names, "images/s"), rows)


def _memory(results: Results) -> str:
    rows = [
        (row["what"], f"{row['process_mib']:.0f}", _number(row["gpu_mib"]), _number(row["loading_seconds"]))
        for row in results.of("memory")
    ]
    return _table(("", "processes, MiB", "whole GPU, MiB", "start or loading, s"), rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _unique(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = list(rows)
    return markdown(head, lines) if lines else ""
