# syntax=docker/dockerfile:1
#
# The worker as a static binary in an image without a shell, run by a user without rights. Build it with
#
#   docker build -t outbox-worker .

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
# The commit is stamped where the context holds a repository; a worktree or an archive does not.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    if git rev-parse HEAD >/dev/null 2>&1; then vcs=true; else vcs=false; fi && \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=$vcs -ldflags='-s -w' -o /out/outbox-worker ./cmd/outbox-worker

# Distroless static holds CA certificates, time zones and /etc/passwd, and nothing to run but what is copied in.
FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/outbox-worker /outbox-worker
USER 65532:65532
# Probes come from outside the container; on a machine of its own the worker listens on the loopback interface only.
ENV OUTBOX_ADMIN_ADDR=:9464
EXPOSE 9464
STOPSIGNAL SIGTERM
# Alive, not ready: a worker whose database is away must not be restarted for it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["/outbox-worker", "healthcheck"]
ENTRYPOINT ["/outbox-worker"]
CMD ["run"]
