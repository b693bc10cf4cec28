"""Debian packages that the benchmarks call: tests/packages.sh knows them."""
import pathlib
import shutil
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[1]


def need(*tools):
    """Installs the packages of all benchmarks if one of the tools is missing."""
    if all(shutil.which(tool) for tool in tools):
        return
    script = '. tests/packages.sh; packages_install "${bench_packages[@]}"'
    subprocess.run(["bash", "-c", script], cwd=TOP, stdout=sys.stderr, check=False)
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        sys.exit(f"missing: {' '.join(missing)} (bench_packages in tests/packages.sh)")
