#!/usr/bin/env python3
"""What `make install` puts where, and that it is right: man pages, completions, unit, settings.
Ends with `N passed, N failed`; what needs a tool that is missing is skipped by its name.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from server import BUILD, Skipped, run_tests  # noqa: E402: its path comes first

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
DEPLOY = f"{ROOT}/tools/deploy"
PROGRAMS = sorted(name for name in os.listdir(f"{ROOT}/tools")
                  if os.path.exists(f"{ROOT}/tools/{name}/main.cc"))
EXPOSURE_MAX = 1.5  # of systemd-analyze security: 0 is closed, 10 open; see tools/deploy/README.md


def run(*command, **how):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=60, **how)


def output(*command, **how):
    done = run(*command, **how)
    assert done.returncode == 0, (command, done.stdout)
    return done.stdout


def need(tool):
    if shutil.which(tool) is None:
        raise Skipped(f"{tool} is not installed")


def program(name):
    return os.path.abspath(f"{BUILD}/{name}")


def helped(name, *command):
    return output(program(name), *command, "--help")


def flags_of(text):
    """The flags that a --help lists: those at the beginning of a line."""
    return re.findall(r"^ +(?:-\w,\s*)?(--[a-z][a-z-]*)", text, re.M)


def every_help():
    """(program, command or nothing, text) of each --help that there is."""
    for name in PROGRAMS:
        text = helped(name)
        yield name, None, text
        listed = re.search(r"^Subcommands:\n((?: +.*\n)+)", text, re.M)
        for command in re.findall(r"^  (\S+)", listed[1], re.M) if listed else ():
            yield name, command, helped(name, command)


class Installed:
    """An installation below a directory of the test's own."""

    def __init__(self, **variables):
        self.directory = tempfile.TemporaryDirectory()
        self.root = self.directory.name
        self.environment = {**os.environ, "BUILD": os.path.abspath(BUILD), "PREFIX": "/usr",
                            "SYSCONFDIR": "/etc", "DESTDIR": self.root, **variables}

    def script(self, action):
        return output(f"{DEPLOY}/install.sh", action, *PROGRAMS, env=self.environment)

    def files(self):
        return sorted(os.path.relpath(os.path.join(where, name), self.root)
                      for where, _, names in os.walk(self.root) for name in names)

    def __enter__(self):
        self.script("install")
        return self

    def __exit__(self, *_):
        self.directory.cleanup()


def test_installs_everything_and_removes_it():
    with Installed() as installed:
        wanted = {"etc/pulsewheel/pulsewheel.toml", "usr/lib/systemd/system/pulsewheel.service",
                  "usr/lib/systemd/system/pulsewheel.socket",
                  "usr/share/doc/pulsewheel/README.md",
                  "usr/share/doc/pulsewheel/examples/sysctl.conf",
                  "usr/share/doc/pulsewheel/examples/limits.conf"}
        wanted |= {f"usr/share/doc/pulsewheel/observe/{name}"
                   for name in os.listdir(os.path.join(DEPLOY, "../observe"))}
        for name in PROGRAMS:
            wanted |= {f"usr/bin/{name}", f"usr/share/man/man1/{name}.1.gz",
                       f"usr/share/bash-completion/completions/{name}",
                       f"usr/share/zsh/site-functions/_{name}",
                       f"usr/share/fish/vendor_completions.d/{name}.fish"}
        assert set(installed.files()) == wanted, set(installed.files()) ^ wanted
        for path in installed.files():
            mode = os.stat(f"{installed.root}/{path}").st_mode & 0o777
            assert mode == (0o755 if path.startswith("usr/bin/") else 0o644), (path, oct(mode))
        unit = open(f"{installed.root}/usr/lib/systemd/system/pulsewheel.service").read()
        assert "ExecStart=/usr/bin/pulsewheel --config /etc/pulsewheel/pulsewheel.toml\n" in unit
        assert not re.search(r"@[A-Z]+@", unit), "a path was not filled in"
        installed.script("uninstall")
        assert installed.files() == [], installed.files()


def test_keeps_settings_that_were_changed():
    with Installed() as installed:
        path = f"{installed.root}/etc/pulsewheel/pulsewheel.toml"
        with open(path, "a") as file:
            file.write('heartbeat-interval = "20s"\n')
        changed = open(path).read()
        assert "kept" in installed.script("install")
        assert "kept" in installed.script("uninstall")
        assert installed.files() == ["etc/pulsewheel/pulsewheel.toml"], installed.files()
        assert open(path).read() == changed


def test_the_settings_that_are_installed_are_the_defaults():
    with tempfile.TemporaryDirectory() as directory:
        text = output(program("pulsewheel"), "--generate", "config")
        settings = output(program("pulsewheel"), "--print-config")
        names = re.findall(r"^([a-z-]+) = ", settings, re.M)
        assert re.findall(r"^#([a-z-]+) = ", text, re.M) == names
        assert not re.search(r"^[^#\n]", text, re.M), "a line that is not a comment"
        assert max(map(len, text.splitlines())) <= 100
        for content in (text, re.sub(r"^#(?=[a-z-]+ = )", "", text, flags=re.M)):
            path = f"{directory}/config.toml"
            with open(path, "w") as file:
                file.write(content)
            assert output(program("pulsewheel"), "--config", path, "--print-config") == settings


# -------------------------------------------------------------------------------------- man pages

def test_every_flag_is_in_its_man_page():
    need("groff")
    for name, command, text in every_help():
        page = output(program(name), "--generate", "man")
        read = output("groff", "-man", "-Tascii", "-P-cbou", "-rLL=200n", input=page)
        assert flags_of(text), (name, command, text)
        for flag in flags_of(text):
            assert re.search(rf"(?<![\w-]){flag}(?![\w-])", read), (name, command, flag, read)


def test_man_pages_have_no_warning():
    need("groff")
    for name in PROGRAMS:
        page = output(program(name), "--generate", "man")
        assert output("groff", "-man", "-Tutf8", "-ww", "-z", input=page) == ""
        if shutil.which("mandoc"):
            said = run("mandoc", "-T", "lint", "-W", "warning", input=page).stdout
            # Without a date on purpose: one source makes one page.
            assert all("missing date" in line for line in said.splitlines()), said


# ------------------------------------------------------------------------------------ completions

def test_every_flag_is_in_every_completion():
    for name, command, text in every_help():
        for shell, written in (("bash", r"--{}"), ("zsh", r"--{}"), ("fish", r"-l {}")):
            completion = output(program(name), "--generate", shell)
            for flag in flags_of(text):
                wanted = written.format(re.escape(flag[2:]))
                assert re.search(wanted + r"(?![\w-])", completion), (name, command, shell, flag)


def complete(name, *words):
    """What bash offers for the last of the words."""
    script = (f"source <('{program(name)}' --generate bash); COMP_WORDS=({name} "
              + " ".join(f"'{word}'" for word in words) + f"); COMP_CWORD={len(words)}; "
              f"_{name} {name}; printf '%s\\n' \"${{COMPREPLY[@]}}\"")
    return output("bash", "--norc", "-c", script).split("\n")[:-1]


def test_bash_completes_flags_words_and_files():
    need("bash")
    assert complete("pulsewheel", "--heartbeat-i") == ["--heartbeat-interval"]
    assert complete("pulsewheel", "--backend", "") == ["auto", "epoll", "io_uring"]
    assert complete("pulsewheel", "--backend", "=", "io") == ["io_uring"]
    assert complete("pulsewheel", "--backend", "=") == ["auto", "epoll", "io_uring"]
    assert complete("pulsewheel", "--pin", "--log-le") == ["--log-level"]
    assert complete("pulsewheel", "--heartbeat-timeout", "") in ([], [""]), "no word is known"
    with tempfile.TemporaryDirectory() as directory:
        open(f"{directory}/with a space", "w").close()
        offered = complete("pulsewheel", "--config", f"{directory}/wi")
        assert offered == [f"{directory}/with a space"], offered
    everything = complete("pulsewheel", "")
    assert set(flags_of(helped("pulsewheel"))) <= set(everything), everything
    assert complete("pulseload", "-")[:1] and "-n" in complete("pulseload", "-")


def test_shells_read_their_completions():
    checked = 0
    for shell in ("bash", "zsh", "fish"):
        if shutil.which(shell) is None:
            continue
        for name in PROGRAMS:
            text = output(program(name), "--generate", shell)
            assert output(shell, "-n", "/dev/stdin", input=text) == "", (shell, name)
        checked += 1
    if checked == 0:
        raise Skipped("no shell is installed")


def test_fish_completes_flags_and_words():
    need("fish")
    script = f"source ('{program('pulsewheel')}' --generate fish | psub); complete -C'{{}}'"
    offered = output("fish", "-N", "-c", script.format("pulsewheel --heartbeat-i"))
    assert offered.startswith("--heartbeat-interval\t"), offered
    offered = output("fish", "-N", "-c", script.format("pulsewheel --backend "))
    words = [line.split("\t")[0] for line in offered.splitlines()]
    assert words == ["auto", "epoll", "io_uring"], offered


# ------------------------------------------------------------------------------------------- unit

def test_the_units_are_verified():
    need("systemd-analyze")
    with tempfile.TemporaryDirectory() as prefix:
        with Installed(PREFIX=prefix, DESTDIR="", SYSCONFDIR=f"{prefix}/etc"):
            units = f"{prefix}/lib/systemd/system"
            for unit in ("pulsewheel.service", "pulsewheel.socket"):
                said = run("systemd-analyze", "verify", "--man=no", f"{units}/{unit}")
                ours = [line for line in said.stdout.splitlines() if "pulsewheel" in line]
                assert said.returncode == 0 and not ours, said.stdout


def test_the_sandbox_is_tight():
    need("systemd-analyze")
    with tempfile.TemporaryDirectory() as prefix:
        with Installed(PREFIX=prefix, DESTDIR="", SYSCONFDIR=f"{prefix}/etc"):
            said = run("systemd-analyze", "security", "--offline=true",
                       f"{prefix}/lib/systemd/system/pulsewheel.service").stdout
            found = re.search(r"Overall exposure level.*: ([\d.]+)", said)
            if not found:
                raise Skipped("systemd-analyze cannot judge a file here: " + said[-200:])
            assert float(found[1]) <= EXPOSURE_MAX, said


if __name__ == "__main__":
    sys.exit(run_tests(globals()))
