#!/usr/bin/env python3
"""The Debian package: built, looked into, installed into a copy of this machine, run there, purged.
Ends with `N passed, N failed`; skipped where dpkg-deb, root or overlayfs is missing.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from server import BUILD, Skipped, run_tests  # noqa: E402: its path comes first

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
PROGRAMS = sorted(name for name in os.listdir(f"{ROOT}/tools")
                  if os.path.exists(f"{ROOT}/tools/{name}/main.cc"))
# What a program that is not of the package's may say of every package.
LINTIAN_ALLOWED = {
    "initial-upload-closes-no-bugs", "no-upstream-changelog", "bogus-mail-host-in-debian-changelog",
    "mail-address-loops-or-bounces", "debian-changelog-file-contains-invalid-email-address",
    "maintainer-script-calls-systemctl", "maintainer-manual-page"}


def need(*tools):
    for tool in tools:
        if shutil.which(tool) is None:
            raise Skipped(f"{tool} is not installed")


def run(*command, **how):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=300, **how)


def output(*command, **how):
    done = run(*command, **how)
    assert done.returncode == 0, (command, done.stdout[-3000:])
    return done.stdout


class Package:
    """Built into a directory of the test's own, of the programs of this build."""

    def __init__(self):
        need("dpkg-deb", "dpkg-shlibdeps", "strip")
        self.directory = tempfile.TemporaryDirectory()
        build = self.directory.name
        for name in PROGRAMS:
            os.symlink(os.path.abspath(f"{BUILD}/{name}"), f"{build}/{name}")
        self.path = output(f"{ROOT}/tools/deploy/make-deb.sh", *PROGRAMS,
                           env={**os.environ, "BUILD": build}).splitlines()[-1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.directory.cleanup()


def test_has_what_a_package_must_have():
    with Package() as package:
        control = output("dpkg-deb", "--field", package.path)
        for library in ("libc6", "liburing2", "libssl3", "libsimdjson", "libfmt", "zlib1g"):
            assert re.search(rf"^Depends:.*\b{library}", control, re.M), control
        files = output("dpkg-deb", "--contents", package.path)
        for path in ("./usr/bin/pulsewheel", "./usr/bin/pulseload", "./usr/bin/pulsesim",
                     "./lib/systemd/system/pulsewheel.service",
                     "./lib/systemd/system/pulsewheel.socket", "./etc/pulsewheel/pulsewheel.toml",
                     "./usr/share/man/man1/pulsewheel.1.gz",
                     "./usr/share/bash-completion/completions/pulsewheel",
                     "./usr/share/zsh/vendor-completions/_pulsewheel",
                     "./usr/share/doc/pulsewheel/copyright"):
            assert f" {path}\n" in files, (path, files)
        assert not re.search(r" (?!root/root)\w+/\w+ +\d", files), files
        output("dpkg-deb", "--control", package.path, f"{package.directory.name}/control")
        with open(f"{package.directory.name}/control/conffiles") as file:
            assert file.read() == "/etc/pulsewheel/pulsewheel.toml\n"
        for script in ("postinst", "prerm", "postrm"):
            output("sh", "-n", f"{package.directory.name}/control/{script}")


def test_one_revision_makes_one_package():
    with Package() as first, Package() as second:
        with open(first.path, "rb") as one, open(second.path, "rb") as other:
            assert one.read() == other.read(), "they differ"


def test_lintian_finds_no_error():
    need("lintian")
    with Package() as package:
        said = run("lintian", "--allow-root", "--fail-on", "none", package.path).stdout
        tags = re.findall(r"^[EW]: \S+: (\S+)", said, re.M)
        assert set(tags) <= LINTIAN_ALLOWED, said


# In a copy of this machine, which is what has the libraries: nothing outside it is written.
SCRIPT = r"""
set -e
copy=$1 package=$2
mount -t tmpfs tmpfs "$copy"
mkdir "$copy/upper" "$copy/work" "$copy/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$copy/upper,workdir=$copy/work" "$copy/root" ||
    exit 77
for folder in proc dev run tmp; do mount -t tmpfs tmpfs "$copy/root/$folder"; done
mount -t proc proc "$copy/root/proc"
mount --rbind /dev "$copy/root/dev"
cp "$package" "$copy/root/tmp/package.deb"
exec chroot "$copy/root" bash -e -c '
    cd /
    dpkg -i /tmp/package.deb
    dpkg -V pulsewheel
    ls -l /etc/systemd/system/multi-user.target.wants/pulsewheel.service
    /usr/bin/pulsewheel --config /etc/pulsewheel/pulsewheel.toml --check-config
    setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs /usr/bin/pulsewheel \
        --config /etc/pulsewheel/pulsewheel.toml --log-format text --listen auto://127.0.0.1:0 \
        2>/tmp/said &
    for _ in $(seq 200); do grep -q "listening on" /tmp/said && break; sleep 0.1; done
    port=$(sed -n "s/.*listening on .*:\([0-9]*\)$/\1/p" /tmp/said)
    exec 3<>/dev/tcp/127.0.0.1/"$port"
    printf "GET /healthz HTTP/1.0\r\n\r\n" >&3
    read -r _ status _ <&3
    echo "healthz $status"
    kill -TERM $!
    wait $! && echo "stopped 0"
    echo "# changed" >>/etc/pulsewheel/pulsewheel.toml
    dpkg -r pulsewheel
    test -e /etc/pulsewheel/pulsewheel.toml && echo "kept the settings"
    mkdir -p /var/log/private/pulsewheel
    dpkg -P pulsewheel
    find /etc /usr /lib /var -name "*pulsewheel*" -newer \
        /tmp/package.deb -print | sed "s/^/left: /"
    dpkg -s pulsewheel 2>/dev/null || echo "purged"
'
"""


def test_is_installed_runs_and_is_purged():
    need("dpkg", "unshare", "setpriv", "deb-systemd-helper")
    if os.getuid() != 0:
        raise Skipped("needs root")
    with Package() as package, tempfile.TemporaryDirectory() as copy:
        done = run("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", SCRIPT,
                   "sh", copy, package.path)
        if done.returncode == 77:
            raise Skipped("no overlayfs over / here: " + done.stdout[-200:])
        said = done.stdout
        assert done.returncode == 0, said
        for line in ("the configuration makes sense", "healthz 200", "stopped 0",
                     "kept the settings", "purged"):
            assert line in said, (line, said)
        assert "left: " not in said, said


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
