# The server with its embedded model. CPU by default; for NVIDIA GPUs:
#   docker build --build-arg VARIANT=cuda --tag vlrm:cuda .
# Without keys the server refuses to listen beyond the container. Say which you mean when you run it:
#   docker run -p 127.0.0.1:8000:8000 -e VLRM_ALLOW_ANONYMOUS=true vlrm
#   docker run -p 8000:8000 -v ./keys:/keys:ro -e VLRM_API_KEYS_FILE=/keys vlrm
ARG VARIANT=cpu
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ARG VARIANT
# Where pip finds CPU-only wheels of torch; the default index carries the CUDA build for x86-64.
ARG TORCH_CPU_INDEX=""
WORKDIR /src
RUN python -m venv /opt/vlrm
ENV PATH="/opt/vlrm/bin:$PATH" PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt ./
# Torch first and alone: the layer that takes minutes does not change with our code.
RUN if [ "$VARIANT" = cpu ] && [ -n "$TORCH_CPU_INDEX" ]; then \
      pip install --constraint constraints.txt --index-url "$TORCH_CPU_INDEX" torch; \
    else \
      pip install --constraint constraints.txt torch; \
    fi
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY rm_core rm_core
COPY service service
COPY training training
RUN pip install --constraint constraints.txt ".[serve]"

FROM python:${PYTHON}-slim AS server
ARG VARIANT
LABEL org.opencontainers.image.title="vlrm" \
      org.opencontainers.image.description="Vision-language reward model server (${VARIANT})" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/vlrm vlrm
COPY --from=build /opt/vlrm /opt/vlrm
ENV PATH="/opt/vlrm/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/var/lib/vlrm/huggingface \
    VLRM_HOST=0.0.0.0 \
    VLRM_PORT=8000
USER 10001
WORKDIR /var/lib/vlrm
EXPOSE 8000
# Alive, not ready: an orchestrator that also wants readiness asks /ready.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"VLRM_PORT\"]}/health', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["vlrm"]
CMD ["serve"]
