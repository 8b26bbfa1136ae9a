# The image from the sources alone. `docker build -t touchline .`; scripts/image makes the same one without Docker.
ARG RUST=1.95.0

FROM rust:${RUST}-slim-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends musl-tools \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY rust-toolchain.toml ./
RUN rustup target add "$(uname -m)-unknown-linux-musl"
# The dependencies first, under stand-ins for our own sources: this layer is made anew only when the dependencies change.
COPY Cargo.toml Cargo.lock ./
COPY scripts/image-root scripts/
RUN mkdir -p src benches/hot \
 && touch src/lib.rs \
 && echo 'fn main() {}' >src/main.rs \
 && cp src/main.rs benches/hot/main.rs \
 && scripts/image-root target/image/root \
 && rm -r src
COPY src src
# A copied file keeps its time, which may lie before that of the stand-in, and then cargo would take it for built.
RUN touch src/lib.rs src/main.rs \
 && scripts/image-root target/image/root

FROM scratch
COPY --from=build /build/target/image/root /
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="touchline" \
      org.opencontainers.image.description="A Kubernetes sidecar that caches, times and watches the HTTP backend beside it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# A number, as runAsNonRoot cannot tell what a name stands for.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/touchline"]
CMD ["run", "--config", "/etc/touchline/proxy.yaml"]
