"""Which way finds the ten nearest of a million embeddings of one label: an exact scan, or an index?

    python -m benchmarks.search make FOLDER PHOTOS… [--label person] [--photos 4000]
    python -m benchmarks.search measure FOLDER WAY… [--count 1000000]

`make` embeds photos with the bundled tagger and writes the million: real embeddings of photos with the label, each
moved towards one of its ten nearest and by noise as long as the distance to the nearest. A tenth of the real ones are
the queries. `measure` runs each way in a process of its own, because of its memory, and prints rows of a Markdown
table. The machine should be idle otherwise.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelwise.repository import Repository
from serving.client.photos import BadPhoto, decoded
from serving.embeddings.embeddings_file import Embedder, Embeddings, LabelRows, write_embeddings
from serving.onnx_session import load_session, run_session

COUNT, DIMENSION, NEAREST, QUERIES, THREADS = 1_000_000, 128, 10, 100, 2
CHUNK = 16_384
LABELS = ("sea", "sunset", "person")  # of the file that is searched: every photo has the first
Search = Callable[[NDArray[np.float32]], Any]  # [p] -> the rows of the nearest


def make(folder: Path, sources: list[Path], label: str, most: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    real = embed([photo for source in sources for photo in sorted(source.rglob("*.jpg"))][:most], label)
    chance = np.random.default_rng(0)
    chance.shuffle(real)
    queries, real = real[: len(real) // 10], real[len(real) // 10 :]
    print(f"{len(real)} real embeddings of {label}, {len(queries)} queries")
    near = real @ real.T
    np.fill_diagonal(near, -2)
    nearest = np.argsort(-near, axis=1)[:, :NEAREST]
    length = np.median(np.sqrt(2 - 2 * near.max(axis=1)))
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float16, (COUNT, DIMENSION))
    for at in range(0, COUNT, CHUNK):
        size = min(CHUNK, COUNT - at)
        one = chance.integers(len(real), size=size)
        other = nearest[one, chance.integers(NEAREST, size=size)]
        noise = chance.standard_normal((size, DIMENSION)) * length / np.sqrt(DIMENSION)
        mixed = real[one] + chance.random((size, 1)) * (real[other] - real[one]) + noise
        vectors[at : at + size] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    np.save(folder / "queries.npy", queries[:QUERIES].astype(np.float16).astype(np.float32))


def embed(photos: list[Path], label: str) -> NDArray[np.float32]:
    """The embeddings of the photos with the label, float32 [n, p]."""
    version = Repository.open(Path("model_repository"), only="everyday").taggers["everyday"][1]
    version = version.with_graph(version.spec.graphs[-1])
    session, spec, found = load_session(version, THREADS), version.spec, []
    place = spec.labels.index(label)
    for photo in photos:
        try:
            pixels = decoded(photo.read_bytes(), spec.image).pixels
        except BadPhoto:
            continue
        outputs = run_session(session, spec, pixels[None], ("scores", "embeddings"))
        if outputs["scores"][0, place] >= spec.thresholds[place]:
            found.append(outputs["embeddings"][0, place])
    return np.stack(found)


def chunks(vectors: NDArray[np.float16]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    for at in range(0, len(vectors), CHUNK):
        yield at, vectors[at : at + CHUNK].astype(np.float32)


def numpy_scan(folder: Path, vectors: NDArray[np.float16]) -> Search:
    def search(query: NDArray[np.float32]) -> NDArray[np.intp]:
        similarities = np.concatenate([chunk @ query for _, chunk in chunks(vectors)])
        best = np.argpartition(-similarities, NEAREST)[:NEAREST]
        return best[np.argsort(-similarities[best])]

    return search


def labelwise_scan(folder: Path, vectors: NDArray[np.float16], tags: tuple[int, ...] = ()) -> Search:
    """What `labelwise search` does."""
    from serving.embeddings.nearest import find_nearest

    file, chance = folder / "embeddings.arrow", np.random.default_rng(1)

    def rows() -> Iterator[LabelRows]:
        for at in range(0, len(vectors), CHUNK):
            part = vectors[at : at + CHUNK]
            places = [[0, *np.flatnonzero(has).tolist()] for has in chance.random((len(part), 3)) < (0, 0.3, 0.4)]
            yield LabelRows(
                0, [f"photos/{at + row:07}.jpg" for row in range(len(part))], np.ones(len(part)), places, part
            )

    with file.open("wb") as stream:
        write_embeddings(stream, Embedder("everyday", 1, "0", LABELS, DIMENSION), rows())
    embeddings = Embeddings(file)

    def search(query: NDArray[np.float32]) -> list[int]:
        found = find_nearest(embeddings, 0, query, NEAREST, tags, threads=THREADS)
        return [int(match.path[7:14]) for match in found]

    return search


def labelwise_filtered(folder: Path, vectors: NDArray[np.float16]) -> Search:
    return labelwise_scan(folder, vectors, (1,))


def faiss_index(description: str) -> Callable[[Path, NDArray[np.float16]], Search]:
    def build(folder: Path, vectors: NDArray[np.float16]) -> Search:
        import faiss

        faiss.omp_set_num_threads(THREADS)
        index = faiss.index_factory(DIMENSION, description, faiss.METRIC_INNER_PRODUCT)
        step = max(1, len(vectors) // 100_000)
        index.train(vectors[::step].astype(np.float32))
        for _, chunk in chunks(vectors):
            index.add(chunk)
        if "IVF" in description:
            index.nprobe = 16
        return lambda query: index.search(query[None], NEAREST)[1][0]

    return build


def hnswlib_index(folder: Path, vectors: NDArray[np.float16]) -> Search:
    import hnswlib

    index = hnswlib.Index("ip", DIMENSION)
    index.init_index(len(vectors), M=16, ef_construction=64)
    for _, chunk in chunks(vectors):
        index.add_items(chunk, num_threads=THREADS)
    index.set_ef(128)
    return lambda query: index.knn_query(query, NEAREST, num_threads=1)[0][0]


def usearch_index(folder: Path, vectors: NDArray[np.float16]) -> Search:
    from usearch.index import Index

    index = Index(ndim=DIMENSION, metric="ip", dtype="f16", connectivity=16, expansion_add=64, expansion_search=128)
    for at, chunk in chunks(vectors):
        index.add(np.arange(at, at + len(chunk)), chunk.astype(np.float16), threads=THREADS)
    return lambda query: index.search(query.astype(np.float16), NEAREST).keys


def arrow_table(at: int, chunk: NDArray[np.float16]) -> pa.RecordBatch:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(chunk.ravel()), DIMENSION)
    return pa.record_batch([pa.array(np.arange(at, at + len(chunk))), vectors], ["id", "vector"])


def lancedb_index(folder: Path, vectors: NDArray[np.float16]) -> Search:
    import lancedb

    every = (arrow_table(at, vectors[at : at + CHUNK]) for at in range(0, len(vectors), CHUNK))
    schema = arrow_table(0, vectors[:1]).schema
    table = lancedb.connect(folder / "lance").create_table("label", every, schema=schema, mode="overwrite")
    table.create_index(metric="dot", vector_column_name="vector", index_type="IVF_PQ", num_sub_vectors=32)

    def search(query: NDArray[np.float32]) -> list[int]:
        found = table.search(query).metric("dot").nprobes(16).refine_factor(10).limit(NEAREST).select(["id"])
        return [row["id"] for row in found.to_list()]

    return search


def duckdb_scan(folder: Path, vectors: NDArray[np.float16]) -> Search:
    import duckdb

    file = folder / "vectors.parquet"
    kind = pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float32(), DIMENSION))])
    with pq.ParquetWriter(file, kind) as writer:
        for at, chunk in chunks(vectors):
            writer.write_batch(arrow_table(at, chunk))
    base = duckdb.connect(str(folder / "vectors.duckdb"))
    base.execute(f"SET threads = {THREADS}")
    base.execute(f"CREATE OR REPLACE TABLE label AS SELECT id, vector::FLOAT[{DIMENSION}] AS vector FROM '{file}'")
    nearest = f"SELECT id FROM label ORDER BY array_inner_product(vector, ?::FLOAT[{DIMENSION}]) DESC LIMIT {NEAREST}"
    return lambda query: [row[0] for row in base.execute(nearest, [query.tolist()]).fetchall()]


WAYS: dict[str, Callable[[Path, NDArray[np.float16]], Search]] = {
    "numpy": numpy_scan,
    "labelwise": labelwise_scan,
    "labelwise-filtered": labelwise_filtered,
    "faiss-exact": faiss_index("SQfp16"),
    "faiss-ivf": faiss_index("IVF1024,SQfp16"),
    "hnswlib": hnswlib_index,
    "usearch": usearch_index,
    "lancedb": lancedb_index,
    "duckdb": duckdb_scan,
}


def measure(way: str, folder: Path, count: int) -> None:
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")[:count]
    queries = np.load(folder / "queries.npy")[: 20 if way in ("numpy", "duckdb") else QUERIES]
    cpu, before = time.process_time(), own_memory()
    search = WAYS[way](folder, vectors)
    built = time.process_time() - cpu
    search(queries[0])
    held, walls, cpus, found = own_memory() - before, [], [], []
    for query in queries:
        wall, cpu = time.perf_counter(), time.process_time()
        found.append({*map(int, search(query))})
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    exact = exact_nearest(vectors, queries).tolist()
    recall = np.mean([len(mine & {*theirs}) / NEAREST for mine, theirs in zip(found, exact, strict=True)])
    shown = f"{recall:.3f}" if way != "labelwise-filtered" else ""  # it is exact among others
    print(
        f"| {way} | {len(vectors):,} | {shown} | {1e3 * np.median(walls):.1f} | {1e3 * np.median(cpus):.1f} | "
        f"{built:.0f} | {held:.0f} |",
        flush=True,
    )


def own_memory() -> float:
    """MiB that the process holds, without what it maps of files, which the system can take back."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def exact_nearest(vectors: NDArray[np.float16], queries: NDArray[np.float32]) -> NDArray[np.intp]:
    """The rows of the nearest of each query by float64 arithmetic [q, NEAREST]. Holds few vectors in memory."""
    best, places = np.full((len(queries), NEAREST), -2.0), np.zeros((len(queries), NEAREST), np.intp)
    for at, chunk in chunks(vectors):
        similarities = np.concatenate([best, queries.astype(float) @ chunk.T.astype(float)], axis=1)
        rows = np.concatenate([places, np.broadcast_to(np.arange(at, at + len(chunk)), (len(queries), len(chunk)))], 1)
        kept = np.argpartition(-similarities, NEAREST, axis=1)[:, :NEAREST]
        best, places = np.take_along_axis(similarities, kept, 1), np.take_along_axis(rows, kept, 1)
    return places


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    making, measuring = verbs.add_parser("make"), verbs.add_parser("measure")
    for verb in (making, measuring):
        verb.add_argument("folder", type=Path)
    making.add_argument("sources", type=Path, nargs="+")
    making.add_argument("--label", default="person")
    making.add_argument("--photos", type=int, default=4000)
    measuring.add_argument("ways", nargs="+", choices=WAYS)
    measuring.add_argument("--count", type=int, default=COUNT)
    arguments = parser.parse_args()
    if arguments.verb == "make":
        make(arguments.folder, arguments.sources, arguments.label, arguments.photos)
        return
    print("| way | embeddings | recall | ms | CPU ms | CPU s to build | MiB held |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for way in arguments.ways:
        process = multiprocessing.get_context("spawn").Process(
            target=measure, args=(way, arguments.folder, arguments.count)
        )
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(f"{way} failed.")


if __name__ == "__main__":
    main()
