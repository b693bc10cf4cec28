"""What the tests' Go programs are built with.

They need Go 1.24. Debian 13 has that; an older go, such as Debian 12's, fetches a newer one the way that go itself does
since 1.21, as the module golang.org/toolchain, from wherever it gets its modules. That one stays in ~/.cache/kiln, and
both it (below) and every module (go.sum) must match a checksum kept here.
"""

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import tempfile
import zipfile

GO_MIN = (1, 24)
TOOLCHAIN = "go1.24.13"
TOOLCHAIN_MACHINE = "x86_64"
TOOLCHAIN_MODULE = f"v0.0.1-{TOOLCHAIN}.linux-amd64"
TOOLCHAIN_SUM = "h1:5sgfUhn9QCgVl4UYj32GrIYFHI3bi2UX55tNfupXwxc="

HERE = pathlib.Path(__file__).resolve().parent


class Failed(Exception):
    """What to tell the user."""


def run(command, environment, directory=HERE):
    done = subprocess.run([str(word) for word in command], cwd=directory, env=environment, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"{' '.join(str(word) for word in command)}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def go_environment(build):
    """Ours, with what changes a build taken out. Where modules come from stays the user's choice."""
    environment = {name: value for name, value in os.environ.items() if name not in ("GOOS", "GOARCH", "GOROOT")}
    environment.update(GO111MODULE="on", GOWORK="off", GOFLAGS="", GOTOOLCHAIN="local", CGO_ENABLED="0")
    if not environment.get("HOME"):
        environment.setdefault("GOPATH", str(build / "go"))
        environment.setdefault("GOCACHE", str(build / "go-cache"))
    return environment


def go_version(go, environment):
    """(1, 24) of go1.24.13; nothing when this is no go."""
    try:
        found = re.fullmatch(r"go([0-9]+)\.([0-9]+)\S*(?: .*)?", run([go, "env", "GOVERSION"], environment).strip())
    except (Failed, OSError):
        return None
    return (int(found[1]), int(found[2])) if found else None


@contextlib.contextmanager
def locked(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --- Toolchain --------------------------------------------------------------------------------------------------------

def find_go(environment, cache):
    """A go that is new enough, fetched when there is only an older one."""
    present = [go for go in (shutil.which("go"), "/usr/local/go/bin/go", "/usr/lib/go/bin/go")
               if go and os.access(go, os.X_OK)]
    versions = {go: go_version(go, environment) for go in present}
    for go, version in versions.items():
        if version and version >= GO_MIN:
            return go
    for go, version in versions.items():
        if version:
            return fetch_go(go, environment, cache)
    raise Failed("no go found; on Debian: apt-get install golang-go")


def fetch_go(old_go, environment, cache):
    needed = f"go {GO_MIN[0]}.{GO_MIN[1]} or later is needed"
    if platform.machine() != TOOLCHAIN_MACHINE:
        raise Failed(f"{needed}, and only one for {TOOLCHAIN_MACHINE} can be fetched; this is {platform.machine()}")
    with locked(cache / f"{TOOLCHAIN}.lock"):
        go = cache / TOOLCHAIN / "bin" / "go"
        if go.exists():
            return go
        with tempfile.TemporaryDirectory(prefix="go-", dir=cache) as scratch:
            # Its own module cache, to be deleted with all that go unpacks there: -modcacherw lets us.
            apart = environment | {"GOMODCACHE": f"{scratch}/modules", "GOFLAGS": "-modcacherw"}
            module = f"golang.org/toolchain@{TOOLCHAIN_MODULE}"
            fetched = json.loads(run([old_go, "mod", "download", "-json", module], apart, scratch))
            unpack_go(fetched["Zip"], f"{module}/", f"{scratch}/go")
            os.rename(f"{scratch}/go", cache / TOOLCHAIN)
        return go


def unpack_go(path, prefix, target):
    with zipfile.ZipFile(path) as archive:
        # A module's checksum: SHA-256 over a list of the files' SHA-256 (golang.org/x/mod/sumdb/dirhash, Hash1).
        listing = hashlib.sha256()
        for name in sorted(archive.namelist(), key=lambda name: name.encode()):
            listing.update(f"{hashlib.sha256(archive.read(name)).hexdigest()}  {name}\n".encode())
        actual_sum = "h1:" + base64.b64encode(listing.digest()).decode()
        if actual_sum != TOOLCHAIN_SUM:
            raise Failed(f"{path} has the checksum {actual_sum}, and {TOOLCHAIN_SUM} is expected")
        for member in archive.infolist():
            if not member.filename.startswith(prefix):
                raise Failed(f"{member.filename!r} is not below {prefix}")
            inside = member.filename.removeprefix(prefix)
            # No module holds another, so the archive spells the inner ones' go.mod differently; nor does it keep modes.
            member.filename = re.sub(r"(^|/)_go\.mod$", r"\1go.mod", inside)
            file = archive.extract(member, target)
            if inside.startswith(("bin/", "pkg/tool/")):
                os.chmod(file, 0o755)


# --- Build ------------------------------------------------------------------------------------------------------------

def stamp(module, products):
    digest = hashlib.sha256(repr(products).encode())
    for file in (*sorted(module.glob("*.go")), module / "go.mod", module / "go.sum", pathlib.Path(__file__).resolve()):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def build(module, products, directory):
    """Builds the products, {file name: go's arguments}, of the package in the folder `module` into `directory`, once:
    later calls with the same sources return at once."""
    first = next(iter(products))
    mark = directory / f"{first}.stamp"
    with locked(directory / f"{first}.lock"):
        expected = stamp(module, products)
        is_built = all((directory / name).exists() for name in products)
        if is_built and mark.exists() and mark.read_text(encoding="utf-8") == expected:
            return
        environment = go_environment(directory)
        home = environment.get("HOME")
        cache = pathlib.Path(environment.get("XDG_CACHE_HOME") or (f"{home}/.cache" if home else directory)) / "kiln"
        go = find_go(environment, cache)
        for name, arguments in products.items():
            run([go, *arguments, "-o", directory / name, "."], environment, module)
        mark.write_text(expected, encoding="utf-8")
