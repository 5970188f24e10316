# One image for every process of Redrive: docker-compose.yml gives each its command and its health check.
FROM python:3.11.14-slim-bookworm AS build

WORKDIR /src
RUN python -m venv /opt/redrive
COPY pyproject.toml constraints.txt README.md LICENSE celeryconfig.py beat_schedule.py ./
COPY tasks tasks
# Flower is a process of the same service, so it shares the image. All wheels bring their libraries along, pycurl its libcurl.
RUN /opt/redrive/bin/pip install --no-cache-dir --disable-pip-version-check --constraint constraints.txt '.[flower]'


FROM python:3.11.14-slim-bookworm

ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="redrive" \
      org.opencontainers.image.description="Finishes the work that a Kafka consumer could not: dead letters in, entities synced, proof out." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"

# A volume that is empty takes the owner of what the image has at its place.
RUN groupadd --system --gid 10001 redrive \
    && useradd --system --uid 10001 --gid redrive --home-dir /var/lib/redrive --shell /usr/sbin/nologin redrive \
    && install --directory --owner redrive --group redrive --mode 0700 /var/lib/redrive

COPY --from=build /opt/redrive /opt/redrive
ENV PATH=/opt/redrive/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

WORKDIR /var/lib/redrive
USER 10001:10001
CMD ["redrive", "--help"]
