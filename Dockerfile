# The server with its embedded model. CPU by default; for NVIDIA GPUs:
#   docker build --build-arg VARIANT=cuda --tag vlrm:cuda .
# Without keys the server refuses to listen beyond the container. Say which you mean when you run it:
#   docker run -p 127.0.0.1:8000:8000 -e VLRM_ALLOW_ANONYMOUS=true vlrm
#   docker run -p 8000:8000 -v ./keys:/keys:ro -e VLRM_API_KEYS_FILE=/keys vlrm
ARG VARIANT=cpu
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ARG VARIANT
# Where pip finds CPU-only wheels of torch. Without it the cpu variant works, but on x86-64 it carries
# the CUDA libraries too, several gigabytes of them: that is what the default index has.
ARG TORCH_CPU_INDEX=""
WORKDIR /src
RUN python -m venv /opt/vlrm
ENV PATH="/opt/vlrm/bin:$PATH" PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt ./
# Torch first and alone: the layer that takes minutes does not change with our code.
# From the CPU index torch only (--no-deps): it does not carry our versions of what torch needs.
RUN case "$VARIANT:$TORCH_CPU_INDEX" in \
      cpu: | cuda:*) pip install --constraint constraints.txt torch ;; \
      cpu:*) pip install --constraint constraints.txt --no-deps --index-url "$TORCH_CPU_INDEX" torch ;; \
      *) echo "VARIANT is cpu or cuda, not $VARIANT" >&2; exit 1 ;; \
    esac
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
# Alive, not ready: an orchestrator that also wants readiness asks /ready. Not urllib, which would
# ask the proxy that Docker hands to containers for this very address.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
  CMD ["python", "-c", "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ['VLRM_PORT']), timeout=2); c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["vlrm"]
CMD ["serve"]
