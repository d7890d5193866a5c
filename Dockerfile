# The environment as an image: one Dockerfile, two stacks. `make image` builds it with its labels.
#   docker build --build-arg LOCK=env-cu128.lock -t ftlab:cu128 .     needs BuildKit
# The CUDA libraries come from the lock's wheels and the driver's from the host, so that the base
# holds neither and the image runs on WSL too.
ARG BASE_IMAGE=debian:bookworm-slim@sha256:abd67ffcfa541b485a3dff59865ab629aa048a6c613e639d36e7456b0b229241

# uv and the wheel's builder, by hash; neither is in the final image.
FROM ${BASE_IMAGE} AS tools
ARG DEBIAN_SNAPSHOT=
WORKDIR /src
COPY container/apt-install container/apt-install
RUN DEBIAN_SNAPSHOT="${DEBIAN_SNAPSHOT}" container/apt-install ca-certificates python3 python3-pip
COPY tools.lock tools.lock
RUN python3 -m pip install --no-cache-dir --no-deps --require-hashes --only-binary=:all: \
    --target /tools -r tools.lock

# Our own wheel. Every file in it has the time of SOURCE_DATE_EPOCH.
FROM tools AS wheel
ARG SOURCE_DATE_EPOCH=1785715200
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY core core
COPY kernels kernels
COPY doctor doctor
COPY tui tui
COPY recipes recipes
RUN SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH}" PYTHONPATH=/tools \
    python3 -m hatchling build -t wheel -d /dist

FROM ${BASE_IMAGE} AS image
ARG DEBIAN_SNAPSHOT=
ARG SOURCE_DATE_EPOCH=1785715200
ARG LOCK=env.lock
# Triton and torch's compiler build launchers at run time: a C and a C++ compiler and Python.h.
COPY container/apt-install /opt/ftlab/bin/apt-install
RUN DEBIAN_SNAPSHOT="${DEBIAN_SNAPSHOT}" /opt/ftlab/bin/apt-install \
    ca-certificates g++ gcc libc6-dev python3 python3-dev tini
COPY ${LOCK} /opt/ftlab/env.lock
# One RUN, so that the 5 GB are written once. Bytecode is checked by hash, not by time: the same
# files give the same image, and a read-only image need not compile anything.
RUN --mount=type=bind,from=tools,source=/tools,target=/tools \
    --mount=type=cache,target=/var/cache/uv \
    export UV_CACHE_DIR=/var/cache/uv UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never \
        UV_SYSTEM_CERTS=1 SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH}"; \
    /tools/bin/uv venv --quiet --python /usr/bin/python3 /opt/ftlab/venv && \
    /tools/bin/uv pip sync --require-hashes --compile-bytecode \
        --python /opt/ftlab/venv/bin/python /opt/ftlab/env.lock
# uv writes down when the wheel was made, which no two builds share: that goes.
RUN --mount=type=bind,from=tools,source=/tools,target=/tools \
    --mount=type=bind,from=wheel,source=/dist,target=/dist \
    export UV_CACHE_DIR=/tmp/uv UV_PYTHON_DOWNLOADS=never SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH}"; \
    /tools/bin/uv pip install --offline --no-deps --compile-bytecode \
        --python /opt/ftlab/venv/bin/python /dist/*.whl && rm -rf /tmp/uv && \
    find /opt/ftlab/venv -name uv_cache.json -delete && \
    sed -i '/uv_cache.json/d' /opt/ftlab/venv/lib/python3.11/site-packages/ftlab-*.dist-info/RECORD
COPY container/entrypoint container/verify.py /opt/ftlab/bin/
# Any user may run the image: what must be written is the cache, the workspace and /tmp.
RUN groupadd --gid 1000 ftlab && useradd --uid 1000 --gid 1000 --no-create-home --home-dir /cache/home \
        --shell /bin/bash ftlab && rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- \
        /var/log/lastlog /var/log/faillog && \
    mkdir -p /cache/home /workspace && chmod 1777 /cache /cache/home /workspace && \
    chown -R ftlab:ftlab /cache /workspace
ENV PATH=/opt/ftlab/venv/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    HOME=/cache/home \
    XDG_CACHE_HOME=/cache \
    FTLAB_CACHE=/cache/ftlab \
    HF_HOME=/cache/huggingface \
    TRITON_CACHE_DIR=/cache/triton \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor \
    HF_HUB_DISABLE_TELEMETRY=1 \
    FTLAB_LOCK=/opt/ftlab/env.lock \
    PYTHONSAFEPATH=1 \
    PYTHONNOUSERSITE=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# The build fails when the image is not what its lock says, or carries a part of a driver.
ARG LOCK_SHA256=
RUN LOCK_SHA256="${LOCK_SHA256}" python /opt/ftlab/bin/verify.py /opt/ftlab/env.lock && \
    rm -f /opt/ftlab/bin/apt-install

USER 1000:1000
WORKDIR /workspace
VOLUME ["/cache"]
HEALTHCHECK --interval=60s --timeout=20s --start-period=20s CMD ["/opt/ftlab/bin/entrypoint", "--healthcheck"]
ENTRYPOINT ["/usr/bin/tini", "-g", "--", "/opt/ftlab/bin/entrypoint"]
# Last, so that a new revision rebuilds no layer.
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=2026-08-03T00:00:00Z
ARG BASE_NAME=debian:bookworm-slim
ARG BASE_DIGEST=sha256:abd67ffcfa541b485a3dff59865ab629aa048a6c613e639d36e7456b0b229241
LABEL org.opencontainers.image.title="ftlab" \
      org.opencontainers.image.description="A reproducible environment for fine-tuning language models" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE_NAME}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}" \
      ftlab.lock="${LOCK}" \
      ftlab.lock.sha256="${LOCK_SHA256}"
