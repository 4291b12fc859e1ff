FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY Makefile Cargo.toml ./
COPY packaging packaging
RUN make deps-build
COPY . .
RUN make build

FROM debian:bookworm-slim
RUN groupadd --system --gid 10001 tollgate \
    && useradd --system --uid 10001 --gid tollgate --home-dir /var/lib/tollgate --create-home tollgate
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /build/packaging/ready.sh /usr/local/bin/tollgate-ready
COPY --from=build /build/target/release/tollgate /usr/local/bin/tollgate
USER 10001:10001
WORKDIR /var/lib/tollgate
EXPOSE 8080 8443
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["tollgate-ready"]
ENTRYPOINT ["tollgate"]
# Mount the configuration here.
CMD ["run", "-c", "/etc/tollgate"]
