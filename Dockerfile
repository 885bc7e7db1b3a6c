# One image for all processes: `docker run lunch-bot api`, `… events`, `… worker`, `… bot`, `… migrate`.

FROM node:24-slim AS web
WORKDIR /src/web
COPY web/package.json web/package-lock.json web/.npmrc ./
RUN npm ci
COPY web/ ./
RUN npm run build

FROM python:3.13-slim AS build
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /src
COPY pyproject.toml requirements.lock README.md ./
COPY app/ app/
COPY migrations/ migrations/
COPY --from=web /src/app/static app/static
# The versions of requirements.lock, without development tools.
RUN uv venv /opt/lunch-bot \
 && uv pip install --no-cache --compile-bytecode --python /opt/lunch-bot --constraints requirements.lock .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin lunch
COPY --from=build /opt/lunch-bot /opt/lunch-bot
ENV PATH=/opt/lunch-bot/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0
USER lunch
# On SIGTERM a process finishes or releases its work within 30 s.
STOPSIGNAL SIGTERM
ENTRYPOINT ["lunch-bot"]
CMD ["api"]
