"""Decoding one photo to the model's input: labelwise against other decoders and resizers.

    python -m benchmarks.decode

Each way runs in a process of its own, in an environment that is made if it is missing. The processes take the photos in
turns, one at a time. Prints Markdown tables: the processor time per photo, how far the pixels and the scores of the
bundled tagger `scenes` are from labelwise's, and what each way makes of photos that are not plain. Linux only.

Pillow-SIMD needs a C compiler and the headers of libjpeg and zlib, and PyTurboJPEG the system's libturbojpeg. What
cannot be installed is left out.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime as ort
from PIL import Image

from benchmarks.peers.environments import NotMeasured, python_of, version_of
from labelwise.image.cicp import PRIMARIES, srgb
from labelwise.image.icc import make_profile

ROOT = Path(__file__).parent.parent
PHOTOS = sorted((ROOT / "tests/assets").glob("photos*/*.jpg"))
WEIGHTS = ROOT / "model_repository/scenes_model/1/model.onnx"
Decoded = tuple[float, np.ndarray]  # milliseconds, pixels [h, w, 3]

SIZES = {"12 MP": (4000, 3000), "48 MP": (8000, 6000)}
CODINGS: dict[str, dict[str, object]] = {
    "4:2:0": {"subsampling": 2},
    "4:4:4": {"subsampling": 0},
    "progressive": {"subsampling": 2, "progressive": True},
    "rotated": {"subsampling": 2},
}
# name: the function of decoding_ways, the environment, and the package whose version is shown
OURS = "labelwise (Pillow)"
WAYS = {
    OURS: ("labelwise", "decode", "pillow"),
    "Pillow at full scale": ("whole", "decode", "pillow"),
    "labelwise on Pillow-SIMD, AVX2": ("labelwise", "decode-simd", "pillow-simd"),
    "labelwise, resized by cykooz.resizer": ("cykooz", "decode", "cykooz.resizer"),
    "labelwise, resized by kornia-rs": ("kornia", "decode", "kornia-rs"),
    "simplejpeg, resized by Pillow": ("simplejpeg", "decode", "simplejpeg"),
    "PyTurboJPEG, resized by Pillow": ("turbojpeg", "decode", "pyturbojpeg"),
    "pyvips, thumbnail": ("pyvips", "decode", "pyvips-binary"),
    "OpenCV, reduced, INTER_AREA": ("opencv", "decode", "opencv-python-headless"),
}


class Worker:
    """A process that decodes in one way."""

    def __init__(self, function: str, environment: str) -> None:
        one_thread = {"OMP_NUM_THREADS": "1", "VIPS_CONCURRENCY": "1", "RAYON_NUM_THREADS": "1"}
        self._child = subprocess.Popen(
            [python_of(environment), "-m", "benchmarks.decoding_ways", function],
            cwd=ROOT,
            env={**os.environ, **one_thread, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def decode(self, photo: Path, turns: int) -> Decoded | str:
        """Returns the median milliseconds and the pixels, or an error."""
        target = photo.with_suffix(".npy")
        self._child.stdin.write(json.dumps([str(photo), turns, str(target)]) + "\n")
        self._child.stdin.flush()
        answer = json.loads(self._child.stdout.readline() or '{"error": "the process ended"}')
        if "error" in answer:
            return answer["error"]
        return (median(answer["ms"]) if turns else 0.0), np.load(target)

    def end(self) -> None:
        self._child.stdin.close()
        self._child.wait()


@dataclass
class Kind:
    """Photos of one kind, and what was measured: per way and photo, milliseconds and pixels, or an error."""

    name: str
    photos: list[Path]
    turns: int
    found: dict[str, list[Decoded | str]]


def jpeg(image: Image.Image, file: Path, **options: object) -> Path:
    image.save(file, "JPEG", **{"quality": 92, **options})
    return file


def enlarged(size: tuple[int, int]) -> Image.Image:
    """Returns a photo of this size, with noise as a sensor's."""
    generator = np.random.default_rng(0)
    with Image.open(ROOT / "tests/assets/photos/mountains-path.jpg") as photo:
        pixels = np.asarray(photo.resize(size, Image.Resampling.LANCZOS)).copy()
    for rows in np.array_split(pixels, 20):  # views
        rows[:] = (rows + generator.normal(0, 3, rows.shape).astype(np.float32)).round().clip(0, 255)
    return Image.fromarray(pixels)


def make_kinds(folder: Path) -> list[Kind]:
    kinds = [Kind("tests/assets", [folder / photo.name for photo in PHOTOS], 15, {})]
    for photo, copy in zip(PHOTOS, kinds[0].photos, strict=True):
        copy.write_bytes(photo.read_bytes())
    for megapixels, size in SIZES.items():
        image = enlarged(size)
        for coding, options in CODINGS.items():
            exif, stored = Image.Exif(), image
            if coding == "rotated":
                exif[0x0112], stored = 6, image.transpose(Image.Transpose.ROTATE_90)
            name = f"{megapixels}, {coding}"
            file = jpeg(stored, folder / f"{len(kinds)}.jpg", exif=exif, **options)
            kinds.append(Kind(name, [file], 7 if megapixels == "12 MP" else 3, {}))
    return kinds


def make_faults(folder: Path) -> list[Kind]:
    """Photos that are damaged or not plain."""
    plain = PHOTOS[0].read_bytes()
    cut = folder / "cut.jpg"
    cut.write_bytes(plain[: len(plain) * 6 // 10])
    with Image.open(io.BytesIO(plain)) as image:
        cmyk = jpeg(image.convert("CMYK"), folder / "cmyk.jpg")
        wide = jpeg(image, folder / "wide.jpg", icc_profile=make_profile(PRIMARIES[12], srgb))  # Display P3
    faults = {"cut off at 60 %": cut, "CMYK": cmyk, "Display P3": wide}
    return [Kind(name, [file], 0, {}) for name, file in faults.items()]


def measure(kinds: list[Kind], workers: dict[str, Worker]) -> None:
    for kind in kinds:
        print(f"{kind.name} …", file=sys.stderr)
        for photo in kind.photos:
            for name, worker in workers.items():
                kind.found.setdefault(name, []).append(worker.decode(photo, kind.turns))


def decoded(kind: Kind, name: str) -> list[Decoded] | None:
    """Returns what the way made of the photos, or None if it failed with one."""
    found = [answer for answer in kind.found[name] if not isinstance(answer, str)]
    return found if len(found) == len(kind.photos) else None


def cost(kind: Kind, name: str) -> str:
    found = decoded(kind, name)
    return f"{np.mean([ms for ms, _ in found]):.2f}" if found else "failed"


def difference(kind: Kind, name: str) -> str:
    """Returns the mean and the largest difference of the pixels from labelwise's."""
    ours, theirs = decoded(kind, OURS), decoded(kind, name)
    if ours is None or theirs is None:
        return "refused" if theirs is None else "decoded"
    gaps = [np.abs(one.astype(int) - other) for (_, one), (_, other) in zip(ours, theirs, strict=True)]
    return f"{np.mean([gap.mean() for gap in gaps]):.2f} / {max(gap.max() for gap in gaps)}"


def score_difference(kinds: list[Kind], name: str, session: ort.InferenceSession) -> str:
    """Returns the largest difference of a score from that of labelwise's pixels."""
    largest = 0.0
    for kind in kinds:
        scores = []
        for way in (OURS, name):
            found = decoded(kind, way)
            if found is None:
                return "failed"
            scores.append(session.run(["scores"], {"image": np.stack([pixels for _, pixels in found])})[0])
        largest = max(largest, float(np.abs(scores[0] - scores[1]).max()))
    return f"{largest:.4f}"


def print_table(head: list[str], rows: dict[str, list[str]]) -> None:
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for name, cells in rows.items():
        print("| " + " | ".join([name, *cells]) + " |")
    print()


def report(kinds: list[Kind], faults: list[Kind], names: list[str]) -> None:
    session = ort.InferenceSession(WEIGHTS, providers=["CPUExecutionProvider"])
    small, phone = kinds[:1], kinds[1:]
    print_table(
        ["CPU ms", *(kind.name for kind in kinds)], {name: [cost(kind, name) for kind in kinds] for name in names}
    )
    others = [name for name in names if name != OURS]
    head = ["difference", *(kind.name for kind in kinds), "scores, tests/assets", "scores, phone photos"]
    gaps = {name: [difference(kind, name) for kind in kinds] for name in others}
    for name, cells in gaps.items():
        cells += [score_difference(part, name, session) for part in (small, phone)]
    print_table(head, gaps)
    found = {name: [difference(kind, name) for kind in faults] for name in names}
    print_table(["not plain", *(kind.name for kind in faults)], found)


def main() -> None:
    os.environ.setdefault("CC", "cc -mavx2")  # Pillow-SIMD is compiled when it is installed
    workers, names = {}, {}
    for name, (function, environment, package) in WAYS.items():
        try:
            workers[name] = Worker(function, environment)
            names[name] = f"{package} {version_of(package, environment)}"
        except NotMeasured as error:
            print(f"{name}: {error}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        kinds, faults = make_kinds(Path(folder)), make_faults(Path(folder))
        measure([*kinds, *faults], workers)
    for worker in workers.values():
        worker.end()
    report(kinds, faults, list(workers))
    print("Versions: " + ", ".join(dict.fromkeys(names.values())) + ".")


if __name__ == "__main__":
    main()
