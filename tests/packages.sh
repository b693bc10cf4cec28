# Debian packages, by what needs them; sourced by ./run, ./test, tests/image and bench/packages.py. Names are those of
# Debian 12 and 13.
# shellcheck shell=bash disable=SC2016,SC2034

build_packages=(g++ cmake ninja-build pkg-config liburing-dev libseccomp-dev libmimalloc-dev libcli11-dev
  libfmt-dev libsimdjson-dev libspdlog-dev libsqlite3-dev libmongoc-dev)
# prometheus is here for promtool, util-linux for setarch, golang-go for the MongoDB test server.
test_packages=(libgtest-dev libgmock-dev libbenchmark-dev python3 curl apache2-utils wrk prometheus iproute2 util-linux
  procps golang-go ca-certificates)
bench_packages=(wrk apache2-utils nginx-light util-linux stress-ng busybox curl python3-yaml)
image_packages=(debootstrap buildah podman runc conmon netavark aardvark-dns catatonit uidmap iptables nftables
  golang-github-containers-common golang-github-containers-image curl jq iproute2)

# packages_missing PACKAGE...: prints those that are not installed.
packages_missing() {
  local installed package
  installed=" $({ dpkg-query -W -f '${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true; } |
    awk '$2 == "installed" {printf "%s ", $1}')"
  for package in "$@"; do
    [[ $installed == *" $package "* ]] || echo "$package"
  done
}

# packages_install PACKAGE...: installs what is missing. Returns 1, having said what to install, where it may not.
packages_install() {
  local missing as_root=()
  if ! command -v dpkg-query >/dev/null; then
    echo "This is not Debian: install the counterparts of: $*" >&2
    return 1
  fi
  mapfile -t missing < <(packages_missing "$@")
  ((${#missing[@]})) || return 0
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      echo "Missing packages, and neither root nor sudo. As root: apt-get install ${missing[*]}" >&2
      return 1
    fi
    as_root=(sudo)
  fi
  echo "Installing: ${missing[*]}"
  # Packages that bring a service would start it: policy-rc.d forbids that while they are installed, and what came with
  # us is not started at the next boot either.
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive bash -c '
    set -e
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
      trap "rm -f $policy" EXIT
      printf "#!/bin/sh\nexit 101\n" > "$policy"
      chmod 755 "$policy"
    fi
    log=$(mktemp)
    { apt-get update -q && apt-get install -qy --no-install-recommends "$@"; } > "$log" 2>&1 ||
      { tail -n 15 "$log" >&2; rm -f "$log"; exit 1; }
    rm -f "$log"
    case " $* " in
      *" prometheus "*) systemctl disable prometheus > /dev/null 2>&1 || true ;;
    esac
  ' packages_install "${missing[@]}" || {
    echo "apt-get could not install: ${missing[*]}" >&2
    return 1
  }
}
