# Triton on a GPU, with the packages that labelwise's repositories need and NVIDIA's image lacks.
#
#     docker build -f deploy/triton.Dockerfile -t labelwise-triton .
#
# scenes_decode runs in Triton's Python backend and imports Pillow and NumPy; its decoder is in the repository.
# scenes_model runs in Triton's onnxruntime or tensorrt backend. The image 24.10 has Triton 2.51, which the tests run, and
# Python 3.10.
#
# The packages are pinned by hash. The base image is not pinned, because its digest could not be looked up. To pin it:
#     docker buildx imagetools inspect nvcr.io/nvidia/tritonserver:24.10-py3
#     docker build --build-arg TRITON=nvcr.io/nvidia/tritonserver:24.10-py3@sha256:…
ARG TRITON=nvcr.io/nvidia/tritonserver:24.10-py3
FROM ${TRITON}
LABEL org.opencontainers.image.title="labelwise triton" \
    org.opencontainers.image.description="NVIDIA Triton for labelwise model repositories" \
    org.opencontainers.image.version="0.2.0" \
    org.opencontainers.image.licenses="Apache-2.0"
COPY deploy/triton-requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --only-binary :all: --require-hashes -r /tmp/requirements.txt && rm /tmp/requirements.txt
COPY --chmod=755 deploy/triton.sh /usr/local/bin/labelwise-triton
# The bundled model; mount your repository over it.
COPY model_repository /models
# The image's own user triton-server; Kubernetes needs the number.
USER 1000:1000
EXPOSE 8001 8002
# Asks whether a model is ready. Triton's own readiness only says that the server runs: see triton.sh.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["python3", "-c", \
    "import http.client as h, json; c = h.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('POST', '/v2/repository/index', '{\"ready\": true}'); exit(not any(m['name'].endswith('_model') for m in json.load(c.getresponse())))"]
CMD ["labelwise-triton"]
