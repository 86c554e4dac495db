#!/usr/bin/env python3
"""gorilla/websocket of Debian's Go packages against build/pulsewheel, on each backend.

gorilla.go holds the checks. It is compiled into build/ from what is installed, no network needed.
"""
import os
import subprocess
import sys

import stage

PACKAGE = "/usr/share/gocode/src/github.com/gorilla/websocket"
BUILT = os.path.join(os.path.abspath(stage.BUILD), "clients")
PROGRAM = os.path.join(BUILT, "gorilla")


def missing():
    if not stage.is_run_by("go", "version"):
        return "no go"
    return "" if os.path.isdir(PACKAGE) else "no gorilla/websocket"


def main():
    lacking = missing()
    if not lacking:
        environment = dict(os.environ, GO111MODULE="off", GOPATH="/usr/share/gocode", GOFLAGS="",
                           GOCACHE=os.path.join(BUILT, "go-cache"))
        subprocess.run(["go", "build", "-o", PROGRAM, "gorilla.go"], cwd=stage.FOLDER,
                       env=environment, check=True, timeout=300)
    return stage.main_of_program("gorilla", lacking, [PROGRAM])


if __name__ == "__main__":
    sys.exit(main())
