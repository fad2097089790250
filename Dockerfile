# The service alone: no Kafka, no Java, no emulator's tools beyond the package itself. Everything is installed from
# requirements/ by hash.
#
# The base image is named by tag, so that it gets its security updates. To pin it, give the digest you have checked:
#   docker build --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:… -t callstream .
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
WORKDIR /src
RUN python -m venv /opt/build && python -m venv /opt/callstream
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN /opt/build/bin/python -m pip install --require-hashes -r requirements/build.txt
RUN /opt/callstream/bin/python -m pip install --require-hashes --only-binary :all: -r requirements/runtime.txt
COPY pyproject.toml README.md ./
COPY service service
RUN /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/callstream/bin/python -m pip install --no-deps --no-index /wheels/*.whl \
    && /opt/callstream/bin/python -m pip uninstall --yes pip

FROM ${PYTHON_IMAGE}
COPY --from=build /opt/callstream /opt/callstream
# The root file system may be read-only: compiled modules are in the image, and nothing is written elsewhere.
ENV PATH=/opt/callstream/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# A callstream.toml mounted here is read at start.
WORKDIR /etc/callstream
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
# For `serve`; other commands bring or switch off their own.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8081/livez', timeout=2)"]
ENTRYPOINT ["callstream"]
CMD ["serve"]
