FROM python:3.11-slim-bookworm

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

COPY requirements.lock .
RUN pip install --require-hashes -r requirements.lock

COPY manage.py LICENSE ./
COPY config config
COPY accounts accounts
COPY conversations conversations
COPY templates templates
COPY static static
COPY locale locale

# Collecting needs production settings; these secrets live for this one command and open nothing.
RUN SWITCHBOARD_ENV=production SWITCHBOARD_DATA_DIR=/tmp/build SWITCHBOARD_ALLOWED_HOSTS=build.invalid \
    SWITCHBOARD_SECRET_KEY="$(python -c 'import secrets; print(secrets.token_urlsafe(48))')" \
    SWITCHBOARD_ENCRYPTION_KEYS="$(python -c 'import base64, secrets; print(base64.b64encode(secrets.token_bytes(32)).decode())')" \
    python manage.py collectstatic --no-input --verbosity 0 \
    && rm -rf /tmp/build \
    && useradd --system --uid 10001 switchboard \
    && install -d -o switchboard /data

ENV SWITCHBOARD_ENV=production SWITCHBOARD_DATA_DIR=/data MALLOC_ARENA_MAX=2 CELERY_SKIP_CHECKS=1
USER switchboard
EXPOSE 8000
CMD ["granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8000", "--workers", "2", "--blocking-threads", "4", \
     "--no-ws", "--log-level", "warning", "--respawn-failed-workers", "--workers-kill-timeout", "10", "config.wsgi:application"]
