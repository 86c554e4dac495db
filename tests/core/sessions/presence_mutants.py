"""Breaks the directory of presence in one place after another, and expects its tests to notice.

    python3 tests/core/sessions/presence_mutants.py [--seeds 400] [NAME ...]

Each mutant is one replacement in one file, built in a folder of its own and run against
directory_test: exit code 1 and a line for each that lives. About two minutes on two cores."""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
SOURCES = ["core/check.cc", "core/sessions/text_store.cc", "core/sessions/directory.cc",
           "core/sessions/cohorts.cc",
           "tests/support/presence_model.cc", "tests/support/presence_world.cc",
           "tests/core/sessions/directory_test.cc"]
DIRECTORY, BOOK, STREAM = (f"core/sessions/{name}" for name in
                           ("directory.cc", "session_book.h", "presence_stream.h"))

COMPILE = ["g++", "-std=c++20", "-O1", "-DPULSE_AUDIT=1", "-I.", "-c"]
MUTANTS = {
    "late_end_counts": (DIRECTORY, "sessions_[session].ref() == connection)", "true)"),
    "generation_of_connection_ignored": (
        DIRECTORY, "sessions_[session].ref() == connection)",
        "sessions_[session].connection.index == connection.id.index)"),
    "takeover_of_the_newest": (DIRECTORY, "if (oldest == 0) oldest = at;", "oldest = at;"),
    "takeover_of_any_device": (DIRECTORY, "if (sessions_[at].device != device) continue;", ""),
    "takeover_leaves_the_old_one": (
        DIRECTORY, "remove(session_of(users_[user], connection));", ""),
    "takeover_is_offline_in_between": (
        DIRECTORY, "if (before == Presence::offline) {",
        "if (before == Presence::offline || replaces) {"),
    "reject_ignores_suspicion": (DIRECTORY, "oldest = suspect;", "oldest = 0;"),
    "one_session_too_many": (DIRECTORY, "user.sessions >= limit",
                             "user.sessions > limit"),
    "one_of_a_device_too_many": (DIRECTORY, "if (same >= most) {", "if (same > most) {"),
    "linger_is_offline": (DIRECTORY, "} else if (config_.linger > 0) {", "} else if (false) {"),
    "lingers_too_short": (DIRECTORY, "users_[lingering_.first].seen_at + config_.linger",
                          "users_[lingering_.first].seen_at"),
    "a_blip_is_offline": (DIRECTORY, "if (before == Presence::offline) {",
                          "if (before != Presence::online) {"),
    "return_keeps_lingering": (
        DIRECTORY, "        unlink(lingering_, user);\n        --counts_.lingering;\n"
        "        ++counts_.blips;", "        ++counts_.blips;"),
    "suspicion_of_one_is_of_all": (DIRECTORY, "owner.suspects == owner.sessions",
                                   "owner.suspects > 0"),
    "suspicion_outlives_its_session": (DIRECTORY, "if (removed.suspect) --user.suspects;", ""),
    "well_is_not_said": (DIRECTORY, "    say_suspect(user, session, now);\n}", "}"),
    "sequence_starts_again": (DIRECTORY, "++changed.sequence", "(changed.sequence = 1)"),
    "generation_stays": (DIRECTORY, "++generations_;", "generations_ + 1;"),
    "reason_of_the_first_end": (
        DIRECTORY, "    user.reason = reason;",
        "    if (user.reason == CloseReason::none) user.reason = reason;"),
    "forgets_the_newest_offline": (
        DIRECTORY, "if (++counts_.offline > config_.offline_max) forget(offline_.first);",
        "if (++counts_.offline > config_.offline_max) forget(offline_.last);"),
    "text_of_labels_leaks": (DIRECTORY, "    texts_.drop(removed.labels);\n", ""),
    "refresh_takes_no_place": (
        DIRECTORY, "    if (answer.replaces) take_over(own.user, answer.replaced);\n", ""),
    "late_login_takes_over": (
        DIRECTORY, "if (login.session != 0 && !is_of(login.session, login.connection)) {",
        "if (false) {"),
    "abandoned_login_is_not_ended": (
        BOOK, "if (entry.abandoned) return ended(handle, entry.reason);",
        "if (entry.abandoned) { entries_.release(handle); return {}; }"),
    "end_of_a_replaced_one_keeps_its_entry": (
        BOOK, "        entries_.release(handle);\n        return outcome;\n    }\n    // Another",
        "        if (entry.session != 0) entries_.release(handle);\n        return outcome;\n"
        "    }\n    // Another"),
    "kept_change_loses_its_name": (STREAM, "        texts_.hold(change.user);\n", ""),
}


def build(folder, changed=None):
    """The test with the file that was changed, and else the objects of the first build."""
    objects = []
    for source in SOURCES:
        whole = os.path.join(folder, source.replace("/", "_") + ".o")
        made = whole if changed is None else whole + ".mutant"
        if changed is None or changed == source or changed.endswith(".h"):
            subprocess.run([*COMPILE, source, "-o", made], cwd=folder, check=True)
            objects.append(made)
        else:
            objects.append(whole)
    program = os.path.join(folder, "test")
    subprocess.run(["g++", *objects, "-o", program, "-lgtest", "-lgtest_main"], check=True)
    return program


def dies(folder, program, seeds):
    try:
        done = subprocess.run([program], cwd=folder, timeout=120, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True,
                              env={**os.environ, "PULSE_PRESENCE_SEEDS": str(seeds)})
    except subprocess.TimeoutExpired:
        return "it never ends"
    if done.returncode == 0:
        return None
    said = [line for line in done.stdout.splitlines()
            if "seed" in line or "assert" in line.lower() or "FAILED" in line]
    return said[0].strip()[:70] if said else f"exit code {done.returncode}"


def mutate(folder, name, file, old, new):
    path = os.path.join(folder, file)
    with open(path) as source:
        text = source.read()
    assert text.count(old) == 1, f"{name}: '{old}' is {text.count(old)} times in {file}"
    with open(path, "w") as source:
        source.write(text.replace(old, new))
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants to try (default: all)")
    parser.add_argument("--seeds", type=int, default=400, help="worlds for each (default 400)")
    options = parser.parse_args()
    unknown = set(options.names) - set(MUTANTS)
    if unknown:
        parser.error(f"'{unknown.pop()}' is not a mutant: {', '.join(MUTANTS)}")
    chosen = options.names or list(MUTANTS)
    living = []
    with tempfile.TemporaryDirectory() as folder:
        for part in ("core", "tests"):
            shutil.copytree(os.path.join(ROOT, part), os.path.join(folder, part))
        said = dies(folder, build(folder), options.seeds)
        assert said is None, f"the test fails on the code as it is: {said}"
        for name in chosen:
            file, old, new = MUTANTS[name]
            whole = mutate(folder, name, file, old, new)
            said = dies(folder, build(folder, file), options.seeds)
            print(f"  {'dies ' if said else 'LIVES'}  {name:40} {said or ''}", flush=True)
            if not said:
                living.append(name)
            with open(os.path.join(folder, file), "w") as source:
                source.write(whole)
    print(f"{len(chosen) - len(living)} of {len(chosen)} mutants die")
    return 1 if living else 0


if __name__ == "__main__":
    sys.exit(main())
