"""Whether label-level embeddings find photos whose *sea* looks like this one's, measured on a running gateway.

    python benchmarks/neighbours.py DATA [--url http://127.0.0.1:8000] [--split val]

DATA holds labels.csv (image, one 0/1 column per label, split) and images/; the model must not have been trained on
them. For every photo with a label, looks up the ten nearest others by that label's embedding. Prints a Markdown
table.
"""

import argparse
import csv
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 10
FEWEST = 15  # photos with both labels, below which a share says little


def embeddings(url: str, photos: list[Path]) -> tuple[list[str], NDArray[np.float32]]:
    """Returns the labels and the photos' embeddings, float32 [n, l, p]."""
    vectors = []
    with httpx.Client(base_url=url, timeout=60, headers={"Accept": "application/octet-stream"}) as client:
        for photo in photos:
            answer = client.post("/v1/embed", content=photo.read_bytes()).raise_for_status()
            labels = answer.headers["x-labelwise-labels"].split(",")
            vectors.append(np.frombuffer(answer.content, "<f4").reshape(len(labels), -1))
    return labels, np.stack(vectors)


def nearest(vectors: NDArray[np.float32], photo: int) -> NDArray[np.intp]:
    """Returns the photos nearest to `photo` by one label's vectors [n, p], without itself."""
    similarity = vectors @ vectors[photo]
    similarity[photo] = -2
    return np.argsort(-similarity)[:NEIGHBOURS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--split", default="val")
    arguments = parser.parse_args()
    with (arguments.data / "labels.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == arguments.split]
    labels, vectors = embeddings(arguments.url, [arguments.data / "images" / row["image"] for row in rows])
    has = np.array([[row[label] == "1" for label in labels] for row in rows])
    print(f"{len(rows)} photos, split {arguments.split}; the {NEIGHBOURS} nearest by the label's own embedding.\n")
    print("| label of the query photo | share among the nearest | share among all photos |\n|---|---|---|")
    for index, label in enumerate(labels):
        found = {photo: nearest(vectors[:, index], photo) for photo in np.flatnonzero(has[:, index])}
        share = np.mean([has[near, index].mean() for near in found.values()])
        print(f"| {label} | {share:.2f} | {has[:, index].mean():.2f} |")
    print(
        "\n| labels of the query photo | nearest with the first label that also have the second "
        "| all with the first label that also have the second |\n|---|---|---|"
    )
    for index, label in enumerate(labels):
        for other in np.flatnonzero(np.arange(len(labels)) != index):
            both = np.flatnonzero(has[:, index] & has[:, other])
            if len(both) >= FEWEST:
                near = [nearest(vectors[:, index], photo) for photo in both]
                shares = [has[some[has[some, index]], other].mean() for some in near if has[some, index].any()]
                print(
                    f"| {label}, and {labels[other]} | {np.mean(shares):.2f} | {has[has[:, index], other].mean():.2f} |"
                )


if __name__ == "__main__":
    main()
