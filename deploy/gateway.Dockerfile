# The gateway, with its embedded engine on a CPU or in front of Tritons.
#
#     docker build -f deploy/gateway.Dockerfile -t labelwise-gateway .
#
# On x86-64 the image has onnxruntime-gpu, as pyproject.toml requires. It also runs on a CPU, and cannot be installed
# together with onnxruntime. The image has no CUDA: for a GPU, use Triton (triton.Dockerfile).
#
# Everything is pinned by its content: the base image by digest, the packages by hash. To renew the digest:
#     docker buildx imagetools inspect python:3.11-slim-bookworm
ARG PYTHON=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
FROM ${PYTHON} AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/labelwise
# The dependencies are a separate layer, so a change of labelwise's code does not download them again.
COPY deploy/requirements.txt ./
RUN pip --python /opt/labelwise/bin/python install --no-cache-dir --only-binary :all: --require-hashes -r requirements.txt
COPY . .
# Without build isolation, which would install the newest setuptools.
RUN pip --python /opt/labelwise/bin/python install --no-cache-dir --no-deps --no-build-isolation . \
    && pip --python /opt/labelwise/bin/python uninstall --yes --quiet setuptools

FROM ${PYTHON}
LABEL org.opencontainers.image.title="labelwise gateway" \
    org.opencontainers.image.description="Multi-label image tagging over HTTP" \
    org.opencontainers.image.version="0.2.0" \
    org.opencontainers.image.licenses="Apache-2.0"
# The base image has no compiled modules; on a read-only file system, each start and each probe would compile them
# again.
# /keys and /feedback belong to the user, so a volume mounted there does, too.
RUN pip uninstall --yes --quiet pip setuptools wheel \
    && python -m compileall -q -x lib2to3 /usr/local/lib/python3.11 \
    && useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent labelwise \
    && install --directory --owner labelwise --group labelwise /keys /feedback
COPY --from=build /opt/labelwise /opt/labelwise
# The bundled model; mount your repository over it. A new volume there begins as a copy, which the user may teach.
COPY --chown=10001:10001 model_repository /models
# Its measurements of models go where all its processes can write.
ENV PATH=/opt/labelwise/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/tmp \
    LABELWISE_HOST=0.0.0.0 \
    LABELWISE_REPOSITORY=/models
# A number, because Kubernetes cannot tell whether a user name is root.
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["python", "-c", \
    "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/v2/health/ready'); exit(c.getresponse().status != 200)"]
# No shell: SIGTERM reaches labelwise itself, which finishes the requests that it accepted.
ENTRYPOINT ["labelwise"]
CMD ["serve"]
