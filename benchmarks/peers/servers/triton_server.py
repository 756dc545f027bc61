"""A Triton that serves the repository BENCH_REPOSITORY over gRPC, without a gateway."""

import os
import sys
import tempfile
from pathlib import Path

from tagger_model import PORT

from serving.local_triton.install import find_triton

if __name__ == "__main__":
    install = find_triton()
    backends = install.lay_out_backends(Path(tempfile.mkdtemp()))
    command = [
        *(str(install.binary), f"--model-repository={os.environ['BENCH_REPOSITORY']}"),
        *(f"--backend-directory={backends}", "--backend-config=python,shm-default-byte-size=4194304"),
        *("--disable-auto-complete-config", "--allow-http=false", "--allow-metrics=false"),
        *("--grpc-address=127.0.0.1", f"--grpc-port={PORT}"),
        *([] if install.has_onnxruntime else ["--model-config-name=python"]),
    ]
    os.execve(command[0], [*command, *sys.argv[1:]], install.environment())
