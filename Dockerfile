# A node, and nothing else in the image: no shell, no package manager. Tasks of the kind exec need one of your own on top.
FROM golang:1.26-alpine AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION=dev
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -ldflags "-X main.version=$VERSION" -o /troupe ./cmd/troupe && mkdir /data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /troupe /troupe
# A new volume takes over the owner of what it covers.
COPY --from=build --chown=65532:65532 /data /data
ENV TROUPE_DATA=/data
VOLUME /data
USER 65532:65532
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s CMD ["/troupe", "health"]
ENTRYPOINT ["/troupe"]
CMD ["serve"]
