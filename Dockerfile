# The proxy and nothing else: built in one stage, run from another without build tools, as a user without rights.
#   docker build -t kveil .
#   docker run --read-only --cap-drop=ALL -v ./kveil.yaml:/etc/kveil/kveil.yaml:ro kveil
# More of it, and what it needs: docs/install.md
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
# For the compiled part. It may be missing: then that part is Python.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
RUN python3 -m venv /opt/tools && python3 -m venv --without-pip /opt/kveil
# Whatever is installed is a wheel that the lock files know by its hash: `make lock` renews them.
ENV PIP_ONLY_BINARY=:all: PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY deploy/requirements.txt deploy/requirements-build.txt deploy/
RUN /opt/tools/bin/pip install --require-hashes -r deploy/requirements-build.txt
RUN /opt/tools/bin/pip --python /opt/kveil/bin/python install --require-hashes -r deploy/requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY deploy/build_hook.py deploy/kveil.1 deploy/
COPY protocol protocol
COPY proxy proxy
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation --no-index --wheel-dir /wheels . \
    && /opt/tools/bin/pip --python /opt/kveil/bin/python install --no-deps --no-index /wheels/kveil-*.whl

FROM ${BASE}
COPY --from=build /opt/kveil /opt/kveil
# Where a key file may live; mount a volume over it to keep the keys.
RUN install -d -o 65532 -g 65532 -m 0700 /var/lib/kveil
ENV PATH=/opt/kveil/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 KVEIL_CONFIG=/etc/kveil/kveil.yaml
USER 65532:65532
WORKDIR /var/lib/kveil
# It drains. With limits.drain_seconds over 8, `docker stop` needs more than its 10 s.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=10s --start-period=10s CMD ["kveil", "health", "--live"]
ENTRYPOINT ["kveil"]
CMD ["run"]
