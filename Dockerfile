# Builds the server, and an image that takes the place of one of Redis or Valkey: the same names, port, volume and user.
#   docker build -t larder .          (podman build --format docker -t larder .)
# Both stages may come from elsewhere: --build-arg BUILDER=… --build-arg BASE=…
ARG BUILDER=rust:1.95-slim-bookworm
ARG BASE=debian:bookworm-slim

FROM ${BUILDER} AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked --bin larder && strip target/release/larder

FROM ${BASE}
# The clients that health checks and people use. 999:1000 are the user and group of the images of Redis and Valkey, so that volumes of theirs fit.
RUN apt-get update -q \
    && apt-get install -q -y --no-install-recommends redis-tools \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 1000 larder \
    && useradd --system --uid 999 --gid larder --home-dir /data --no-create-home larder \
    && mkdir /data && chown larder:larder /data \
    && for name in redis-server redis-sentinel valkey-server valkey-sentinel; do ln -s larder /usr/local/bin/$name; done \
    && for name in cli benchmark check-rdb check-aof; do ln -s /usr/bin/redis-$name /usr/local/bin/valkey-$name; done
COPY --from=build /source/target/release/larder /usr/local/bin/larder
COPY --from=build /source/docs/operating/image/entrypoint /usr/local/bin/larder-entrypoint
COPY --from=build /source/LICENSE /usr/share/doc/larder/LICENSE

# As in the images of Redis: the folder it is started in, and clients of the container's network without a password.
ENV LARDER_DEFAULTS="dir .; protected-mode no"
VOLUME /data
WORKDIR /data
EXPOSE 6379
STOPSIGNAL SIGTERM
ENTRYPOINT ["larder-entrypoint"]
CMD ["larder"]
