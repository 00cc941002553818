#!/bin/sh
# spython 0.3.14: a Dockerfile whose last stage has no name becomes a definition of one stage, which copies from itself.
#
# "FROM a AS build ... FROM b" is how Dockerfiles keep compilers out of the image that is kept. A last stage without a name, the usual
# way, is no stage for "spython recipe": its base image and its commands are given to the stage "build", whose own base image is gone, and COPY
# --from=build becomes "%files from build" within the stage "build". No warning, exit code 0.
#
# Seen with spython 0.3.14 of PyPI. With a name behind the second FROM there are two stages. Fails if that changes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv v
v/bin/pip install -q --disable-pip-version-check spython==0.3.14
cat > Dockerfile <<'END'
FROM debian:13 AS build
RUN make
FROM almalinux:9
COPY --from=build /app /app
RUN install-app
END
v/bin/spython recipe Dockerfile | grep -E '^(From|Stage):|^%(files|post)|^make|^install' > seen
cat seen
cat > expected <<'END'
From: almalinux:9
Stage: build
%files from build
%post
make
install-app
END
cmp expected seen
sed -i 's/almalinux:9/almalinux:9 AS final/' Dockerfile
test "$(v/bin/spython recipe Dockerfile | grep -c '^Stage:')" = 2
