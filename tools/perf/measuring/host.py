"""A machine as hostcheck.sh reads it, from proc/ and sys/ below a folder, and what is found."""
import dataclasses
import glob
import os

from measuring import environment


@dataclasses.dataclass
class Finding:
    """One thing that was looked at; `level` is must, should, unknown or ok."""
    level: str
    name: str
    value: str | None
    why: str
    change: str | None = None


class Host:
    """Reads files below `root`; nothing is written. `privileged`: profilers run as root."""

    def __init__(self, root="/", privileged=None):
        self.root = root
        self.privileged = os.geteuid() == 0 if privileged is None else privileged

    def read(self, path):
        return environment.read(os.path.join(self.root, path))

    def find(self, pattern):
        """Paths below the root that match, relative to it."""
        return sorted(os.path.relpath(path, self.root)
                      for path in glob.glob(os.path.join(self.root, pattern)))

    def sysctl(self, name):
        return environment.sysctl(name, self.root)

    def cores(self):
        return len(self.find("sys/devices/system/cpu/cpu[0-9]*"))

    def at_least(self, name, least, level, why):
        """A finding of a sysctl that is one number and must not be less."""
        value = self.sysctl(name)
        if value is None or not value.isdigit():
            return Finding("unknown", name, value, why)
        if int(value) >= least:
            return Finding("ok", name, value, why)
        return Finding(level, name, value, f"{why}; at least {least:,} are wanted",
                       f"sysctl -w {name}={least}")
