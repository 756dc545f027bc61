"""The bare loop: decode and session.run, without a server. Prints JSON: images, seconds, CPU seconds, peak PSS in MiB.

python bare_loop.py BATCH SECONDS PHOTO ...
"""

import json
import sys
import time
from itertools import cycle, islice
from pathlib import Path

from tagger_model import TaggerModel


def pss() -> float:
    (line,) = [line for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if line.startswith("Pss:")]
    return int(line.split()[1]) / 1024


def main() -> None:
    batch, seconds = int(sys.argv[1]), float(sys.argv[2])
    photos = cycle([Path(name).read_bytes() for name in sys.argv[3:]])
    model = TaggerModel()

    def run() -> None:
        scores = model.scores([model.decode(photo) for photo in islice(photos, batch)])
        for row in scores:
            json.dumps(model.answer(row))

    run()
    count, started, used = 0, time.perf_counter(), time.process_time()
    while (elapsed := time.perf_counter() - started) < seconds:
        run()
        count += batch
    print(json.dumps({"images": count, "seconds": elapsed, "cpu": time.process_time() - used, "memory": pss()}))


if __name__ == "__main__":
    main()
