FROM debian:trixie-slim AS build

# jq writes the bill of materials.
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      g++ cmake ninja-build pkg-config \
      liburing-dev libseccomp-dev libmimalloc-dev libcli11-dev libfmt-dev libsimdjson-dev libspdlog-dev libsqlite3-dev \
      libmongoc-dev ca-certificates jq \
 && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY . .

# Another value does what follows anew although nothing has changed, so that it can be seen that the same comes out.
ARG KILN_COMPILED=1
# The commit, and its date in seconds since 1970: whatever here is dated gets this date.
ARG KILN_COMMIT=
ARG SOURCE_DATE_EPOCH=0

# The warnings of a compiler newer than ours are no reason to ship nothing.
RUN cmake --preset release -DBUILD_TESTING=OFF -DKILN_BENCH=OFF -DCMAKE_COMPILE_WARNING_AS_ERROR=OFF \
      -DKILN_COMMIT="$KILN_COMMIT" \
 && cmake --build --preset release --target kiln

ARG KILN_PACKED=1

# The binary, what it loads for MongoDB, and, under the paths where their loader looks for them, exactly the libraries
# that these name.
RUN install -D -m 0755 -s build/release/app/kiln /out/usr/local/bin/kiln \
 && install -D -m 0644 -s build/release/app/libkiln_mongodb.so /out/usr/local/lib/kiln/libkiln_mongodb.so \
 && { ldd /out/usr/local/bin/kiln && ldd /out/usr/local/lib/kiln/libkiln_mongodb.so; } > /tmp/libraries \
 && ! grep 'not found' /tmp/libraries \
 && grep -o '/[^ ]*' /tmp/libraries | sort -u | xargs cp -L --parents -t /out

# Where OpenSSL looks for the authorities that a MongoDB with TLS is checked against.
RUN install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /out/usr/lib/ssl/cert.pem

# What each licence asks to go along, then the list of all that is there.
RUN image/copyrights /out && image/sbom /out build/release

# Owned by the user, whose records go there.
RUN install -d -m 0750 /records \
 && find /out /records -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +

FROM scratch

ARG KILN_VERSION=0.1.0
ARG KILN_COMMIT=
LABEL org.opencontainers.image.title="Kiln" \
      org.opencontainers.image.description="Calibrated CPU load for Kubernetes autoscaling" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$KILN_VERSION" \
      org.opencontainers.image.revision="$KILN_COMMIT"

COPY --from=build /out /
COPY --from=build --chown=65532:65532 /records /var/lib/kiln
ENV KILN_DATA_DIR=/var/lib/kiln
VOLUME /var/lib/kiln

# A number, so that Kubernetes can tell that it is not root (runAsNonRoot).
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=2s --start-period=1s CMD ["/usr/local/bin/kiln", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/kiln"]
CMD ["serve"]
