# Which package a file of the image is from; sourced by image/copyrights and image/sbom.
# shellcheck shell=bash

# owner PATH: prints Debian's package, or kiln. PATH is the file's in the image, which is also where Debian has it.
owner() {
  case $1 in
    /usr/local/* | /usr/share/doc/kiln/*) echo kiln ;;
    # Made of its parts when the package was installed.
    /usr/lib/ssl/cert.pem) echo ca-certificates ;;
    /usr/share/doc/*/copyright) basename "$(dirname "$1")" ;;
    # dpkg knows the file that a link means, under the path that is no link.
    *) dpkg-query --search "$(realpath "$1")" | sed 's/[:,].*//' ;;
  esac
}
