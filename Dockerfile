# The proxy and nothing else: built in one stage, run from another without build tools, as a user without rights.
#   docker build -t kveil .
#   docker run --read-only --cap-drop=ALL -v ./kveil.yaml:/etc/kveil/kveil.yaml:ro kveil run --config /etc/kveil/kveil.yaml
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
# For the compiled part. It may be missing: then that part is Python.
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
RUN python3 -m venv /opt/kveil
COPY pyproject.toml README.md LICENSE ./
COPY deploy/build_hook.py deploy/
COPY protocol protocol
COPY proxy proxy
RUN /opt/kveil/bin/pip install --no-cache-dir .

FROM ${BASE}
COPY --from=build /opt/kveil /opt/kveil
# Where a key file may live; mount a volume over it to keep the keys.
RUN install -d -o 65532 -g 65532 -m 0700 /var/lib/kveil
ENV PATH=/opt/kveil/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /var/lib/kveil
ENTRYPOINT ["kveil"]
CMD ["run"]
