# The gateway in an image that holds one binary, no shell and no package manager.
#
#   make image      (docker build -t countersign:0.1.0 . or the same of podman or buildah)
#   docker run -v /srv/countersign:/etc/countersign:ro -v countersign:/var/lib/countersign \
#     -p 8080:8080 countersign:0.1.0

FROM rust:1.95-bookworm AS build
# zlib-ng, in Pingora's tree, is built with cmake.
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# .cargo/config.toml comes along: it selects the fast Ed25519 code. A RUSTFLAGS in the environment
# would replace it silently, so none is set here.
COPY . .
RUN scripts/release && mkdir /build/state

# Debian 12 on both sides: the binary needs the C library it was linked against. `cc` has that
# and root certificates, `nonroot` is uid 65532.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /build/target/release/countersign /countersign
# The journal of nonces, `replay.state_dir`. A volume must be mounted here: with a new, empty one in
# each container, a new container does not know what the one before accepted.
COPY --from=build --chown=nonroot:nonroot /build/state /var/lib/countersign
ENV STATE_DIRECTORY=/var/lib/countersign
VOLUME /var/lib/countersign
USER nonroot
# The configuration, the registry and the credential come from a read-only mount on
# /etc/countersign. Mount the directory, not single files: a file that an editor replaces by
# renaming stays the old one in a file mount.
EXPOSE 8080
# The admin listener (9790) is on loopback unless the configuration says otherwise, so it is not
# exposed. The probe runs inside, where it reaches it; exec form, because there is no shell.
# Liveness and not readiness: a gateway that drains must not be taken for a broken one.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/countersign", "health", "--live"]
# The binary is process 1 and handles SIGTERM itself: give it more than `shutdown` takes
# (5 s + 25 s by default): docker stop --time 35.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/countersign"]
CMD ["serve", "--config", "/etc/countersign/countersign.yaml"]
