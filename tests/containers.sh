# What tests/image and tests/image_pod share: a container engine that works where there is no registry, no systemd and
# not every capability, the base image, and the build. Sourced at the top of the tree, after tests/packages.sh.
# shellcheck shell=bash disable=SC2154

readonly base=localhost/debian:trixie-slim
readonly image=localhost/kiln:test
work=$(mktemp -d)
containers=()

cleanup() {
  local container
  for container in "${containers[@]}"; do
    podman rm --force --time 0 "$container" >/dev/null 2>&1 || true
  done
  rm -rf --one-file-system "$work"
}
trap cleanup EXIT

did_not_run() {
  echo "$(basename "$0") test did not run: $1"
  exit 77
}

fail() {
  echo "$(basename "$0") test FAILED: $1" >&2
  if ((${#containers[@]})); then
    echo "--- log of the last container" >&2
    podman logs --tail 20 "${containers[-1]}" >&2 || true
  fi
  exit 1
}

# expect WHAT ACTUAL PATTERN
expect() {
  # shellcheck disable=SC2053
  [[ $2 == $3 ]] || fail "$1 is '$2', expected $3"
  echo "ok: $1 is $2"
}

prepare() {
  ((EUID == 0)) || did_not_run "it makes control groups and a base image, which takes root"
  packages_install "${image_packages[@]}" || did_not_run "podman, buildah and debootstrap cannot be installed here"
  # runc, since crun refuses the hybrid control group layout; plain limits, since podman's own need CAP_SYS_RESOURCE.
  cat > "$work/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
  export CONTAINERS_CONF=$work/containers.conf
}

# The base image as it is published has the copyright file of every package, and no other documents.
base_is_there() {
  podman image exists "$base" &&
    podman run --rm --network=none "$base" test -e /usr/share/doc/libc6/copyright 2>/dev/null
}

make_base() {
  base_is_there && return
  local mirror root=$work/root
  # shellcheck disable=SC2016
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | head -n 1)
  [[ -n $mirror ]] || did_not_run "apt knows no mirror to make $base from"
  echo "Making $base with debootstrap (once)."
  debootstrap --variant=minbase trixie "$root" "$mirror" > "$work/debootstrap.log" 2>&1 || {
    tail -n 5 "$work/debootstrap.log" >&2
    did_not_run "debootstrap cannot make $base"
  }
  # A mirror may be a snapshot, whose dates have passed.
  printf '%s\n' 'Acquire::Check-Valid-Until "false";' 'Acquire::Check-Date "false";' \
    > "$root/etc/apt/apt.conf.d/90snapshot"
  rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{man,locale}/* "$root"/var/log/* \
    "$root"/etc/{resolv.conf,hostname}
  find "$root/usr/share/doc" -type f ! -name copyright -delete
  tar -C "$root" --numeric-owner --one-file-system -c . |
    podman import --change 'CMD ["bash"]' \
      --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' - "$base" >/dev/null 2>&1 ||
    did_not_run "podman cannot import $base"
  rm -rf --one-file-system "$root"
}

# What the product needs of the machine, tried with an image that is not the product.
limits=(--cpus=0.5 --memory=256m --network=host --read-only --user 65532:65532 --cap-drop=all
  --security-opt no-new-privileges)

probe_engine() {
  podman run --rm "${limits[@]}" "$base" true > "$work/probe.log" 2>&1 ||
    did_not_run "podman cannot run a container with these limits: $(tail -n 1 "$work/probe.log")"
}

# build TAG [BUILD ARGUMENT...]: everything that is dated gets the date of the commit. A sixteenth of the usual share of
# the CPU: it takes what the tests beside it leave.
build() {
  local tag=$1 commit version date argument arguments=()
  shift
  commit=$(git rev-parse HEAD 2>/dev/null || true)
  date=$(git log -1 --format=%ct 2>/dev/null || echo 0)
  version=$(sed -n 's/^project(kiln VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
  for argument in "KILN_COMMIT=$commit" "KILN_VERSION=$version" "SOURCE_DATE_EPOCH=$date" "$@"; do
    arguments+=(--build-arg "$argument")
  done
  echo "Building $tag."
  buildah bud --pull=never --network=host --cpu-shares 64 --layers --format docker --timestamp "$date" \
    "${arguments[@]}" -t "$tag" . > "$work/build.log" 2>&1 || {
    tail -n 40 "$work/build.log" >&2
    fail "the image does not build"
  }
}

free_port() {
  local port tries
  for ((tries = 0; tries < 100; tries++)); do
    port=$((20000 + RANDOM % 10000))
    [[ -z $(ss -Hltn "sport = :$port") ]] && echo "$port" && return
  done
  fail "no free port in a hundred tries"
}

# wait_for SECONDS COMMAND...: tries again until it succeeds.
wait_for() {
  local deadline=$(($(date +%s%N) + $1 * 1000000000))
  shift
  until "$@"; do
    (($(date +%s%N) < deadline)) || return 1
    sleep 0.01
  done
}

answers() { curl -fs -o /dev/null --max-time 2 "http://127.0.0.1:$1/readyz"; }

knows_limits() {
  curl -fs --max-time 2 "http://127.0.0.1:$1/api/info" |
    jq -e '.cpu.limit_millicores and .memory.limit_bytes' > /dev/null
}
