# Triton on a GPU, with what NVIDIA's image lacks for a repository of ours.
#
#     docker build -f deploy/triton.Dockerfile -t labelwise-triton .
#
# scenes_decode runs in its Python backend and imports Pillow (AVIF needs 11.3) and NumPy; its decoder is a file beside it.
# scenes_model runs in its onnxruntime backend, or its tensorrt one. 24.10 holds Triton 2.51, the version that the tests
# run, and Python 3.10.
FROM nvcr.io/nvidia/tritonserver:24.10-py3
LABEL org.opencontainers.image.title="labelwise triton" \
    org.opencontainers.image.description="NVIDIA Triton for labelwise model repositories" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.licenses="Apache-2.0"
COPY constraints.txt /tmp/constraints.txt
RUN pip install --no-cache-dir --only-binary :all: -c /tmp/constraints.txt numpy pillow && rm /tmp/constraints.txt
COPY --chmod=755 deploy/triton.sh /usr/local/bin/labelwise-triton
# The bundled model; mount your repository over it.
COPY model_repository /models
# Its own user triton-server, by number for Kubernetes.
USER 1000:1000
EXPOSE 8001 8002
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["python3", "-c", \
    "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/v2/health/ready'); exit(c.getresponse().status != 200)"]
CMD ["labelwise-triton"]
