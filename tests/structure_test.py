#!/usr/bin/env python3
"""The rules about the shape of this repository that a compiler does not check.

Each rule is a function from a tree (path -> text) to complaints. Each is run twice: on the
repository, where it must stay silent, and on a small tree that breaks it, where it must not.
"""
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
LAYERS = ["core", "proto", "net", "tools"]  # each may include itself and those before it
TOP_LEVEL = {"Makefile", "README.md", "LICENSE", "tests", "bench", *LAYERS}
PROGRAMS = ["pulsewheel", "pulseload", "pulsesim", "pulsectl"]
# Folders of net/, and which others each may include.
NET_LAYERS = {"io": (), "auth": (), "tls": (), "protocols": ("io",),
              "loop": ("auth", "tls", "protocols", "io"),
              "server": ("loop", "auth", "tls", "protocols", "io"),
              "sim": ("loop", "protocols", "io"), "control": ("loop", "protocols", "io"),
              "observe": ("loop", "protocols", "io"), "client": ("tls", "io")}
# Folders of tools/pulseload/ likewise; what lies above them may include both.
LOAD_LAYERS = {"run": (), "report": ("run",)}
PROTOCOLS = "net/protocols/protocols.def"  # the one table that is not of statistics
BACKEND_HEADERS = re.compile(r"net/(io/(epoll|uring)_|sim/)backend\.h")
COLUMNS_MAX = 100
FUNCTION_LINES_MAX = 70

CPP = (".h", ".cc", ".def")
CODE = CPP + (".py", ".sh", ".js", ".mjs", ".go", ".bt", ".css")
COMMENTED = CODE + (".html", ".toml", ".yml", ".yaml", ".service", "Makefile")

INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.M)
# What would bring a clock, a thread, a file or a system call into core/.
CORE_HEADERS_DENIED = re.compile(
    r"(sys|net|netinet|arpa|linux|asm|spdlog|openssl|CLI)/.*|liburing(/.*)?\.h|"
    r"(unistd|fcntl|poll|signal|sched|pthread|time|semaphore|netdb|dirent|syscall|errno|stdio)\.h|"
    r"thread|mutex|shared_mutex|condition_variable|future|semaphore|barrier|latch|stop_token|"
    r"chrono|ctime|csignal|cerrno|random|fstream|iostream|filesystem|syncstream|cstdio")
CORE_HEADERS_ALLOWED = {
    ("core/check.cc", "cstdio"),  # the one line before abort()
    ("proto/handshake.cc", "openssl/evp.h"),  # base64 and
    ("proto/handshake.cc", "openssl/sha.h"),  # SHA-1, which need no kernel
}
# Records of TLS: primitives of cryptography, and none of OpenSSL's connections and files.
TLS_RECORDS_HEADERS = re.compile(r"openssl/(core_names|crypto|err|evp|params|types)\.h")
KERNEL_HEADERS = re.compile(r"liburing(/.*)?\.h|linux/io_uring\.h|sys/epoll\.h")
SIMDJSON_FILES = re.compile(r"proto/(json|json_welcome|jwt|utf8)\.(h|cc)")

# What an object of core/ must not ask of others: a clock, a thread, anything of the kernel's.
SYMBOLS_DENIED = re.compile(
    r"(clock_\w+|gettimeofday|time|timespec_get|localtime\w*|gmtime\w*|(u|nano)?sleep|alarm|"
    r"timerfd_\w+|pthread_\w+|thrd_\w+|sem_\w+|sched_\w+|syscall|futex|fork|vfork|exec\w+|clone|"
    r"mmap(64)?|munmap|mremap|madvise|mprotect|mlock|brk|sbrk|"
    r"open(64|at|at64)?|creat|close|p?read(v|64)?|p?write(v|64)?|lseek\w*|ioctl|fcntl(64)?|"
    r"dup\d?|pipe2?|"
    r"poll|ppoll|select|epoll_\w+|eventfd\w*|io_uring_\w+|socket\w*|bind|listen|accept4?|connect|"
    r"send(to|msg|mmsg)?|recv(from|msg|mmsg)?|[gs]etsockopt|shutdown|kill|raise|signal|sigaction|"
    r"get(env|random|entropy|pid|tid|rlimit)|rand|srand|random|"
    r"f?printf|f?puts|f?putc|putchar|fwrite|fread|fopen(64)?|fflush|perror|std(out|err|in)|"
    r"_ZNSt6chrono.*3nowEv|_ZNSt6thread.*|_ZNSt11this_thread.*|_ZNSt13random_device.*|"
    r"_ZNSt5mutex.*|_ZNSt18condition_variable.*|_ZSt4(cout|cerr|clog)|_ZNSt8ios_base4InitC1Ev|"
    r"_ZNSt\d+basic_([io]?fstream|filebuf).*)")
SYMBOLS_ALLOWED = {"check.o": {"fprintf", "stderr", "fwrite", "abort"}}

MARKS = re.compile(r"\b(" + "|".join(["TO" "DO", "FIX" "ME", "XX" "X", "HA" "CK"]) + r")\b")
MACHINE_PATHS = re.compile(
    r"(?<![\w.~/-])/(root|home|Users|wo" r"rk|workspace)/|/tmp/p" r"w-|"
    r"\b(registry\.npmjs|pypi\.org|files\.pythonhosted|proxy\.golang|sum\.golang|crates\.io|"
    r"deb\.debian\.org|security\.debian\.org)", re.I)

PERSONS = re.compile(r"\b(h[e]|h[i]s|h[i]m|(no|some|any|every)bod[y]|whoeve[r])\b", re.I)
LITERAL = re.compile(r"""\"(?:[^"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|`[^`\n]*`""")
EIGHT_BITS = re.compile(r"octe[t]s?", re.I)
RFC_QUOTATION = re.compile(r"application/octe[t]-stream|\"[^\"]*octe[t][^\"]*\" \(RFC \d+", re.I)
COMMENT_LINE = re.compile(r"\s*(//|#) (?!NOLINT| {8}| *[\^|+-]|.*\S {3})(.*)")
ORPHAN_COLUMNS_MIN = 88
LITERAL_LAST = re.compile(r'"((?:[^"\\\n]|\\.)*)"$')
LITERAL_FIRST = re.compile(r'\s*"((?:[^"\\\n]|\\.)*)"')
STUB_CHARACTERS_MIN = 12


def lines_of(tree, suffixes):
    for path, text in tree.items():
        if path.endswith(suffixes):
            for number, line in enumerate(text.splitlines(), 1):
                yield path, number, line


def includes_of(tree):
    for path, text in tree.items():
        if path.endswith(CPP):
            for match in INCLUDE.finditer(text):
                yield path, match[1] == '"', match[2]


def includes_go_down(tree):
    """Includes go tools -> net -> proto -> core; nothing includes tests or bench."""
    for path, is_ours, header in includes_of(tree):
        source, target = path.split("/")[0], header.split("/")[0]
        if not is_ours or source not in LAYERS:
            continue
        if target not in LAYERS or LAYERS.index(target) > LAYERS.index(source):
            allowed = ", ".join(LAYERS[:LAYERS.index(source) + 1])
            yield f"{path} includes {header}; {source}/ may include {allowed}"


def net_has_inner_layers(tree):
    """Inside net/ includes go down only, as NET_LAYERS has it."""
    for path, is_ours, header in includes_of(tree):
        source, target = path.split("/"), header.split("/")
        if not is_ours or source[0] != "net" or target[0] != "net":
            continue
        allowed = NET_LAYERS.get(source[1], ())
        if len(target) < 3 or (target[1] != source[1] and target[1] not in allowed):
            yield f"{path} includes {header}; net/{source[1]}/ may include {' '.join(allowed)}"


def pulseload_has_inner_layers(tree):
    """In tools/pulseload/ reports know runs by their results, and runs know nothing of reports."""
    reached = {}  # by each file of report/: what it includes, and what that includes
    for path, is_ours, header in includes_of(tree):
        source, target = path.split("/"), header.split("/")
        if is_ours and path.startswith("tools/pulseload/"):
            reached.setdefault(path, set()).add(header)
        if not is_ours or source[:2] != target[:2] or source[:2] != ["tools", "pulseload"]:
            continue
        if len(source) > 3 and target[2] not in (source[2], *LOAD_LAYERS.get(source[2], ())):
            yield f"{path} includes {header}; runs, and what reports need of them, are below it"
    for path in [path for path in reached if path.startswith("tools/pulseload/report/")]:
        todo, seen = [path], set()
        while todo:
            for header in reached.get(todo.pop(), set()) - seen:
                seen.add(header)
                todo.append(header)
        for header in sorted(seen):
            if header.startswith("tools/pulseload/run/crowd"):
                yield f"{path} reaches {header}; a report is made of a result"


def backends_stay_below(tree):
    """No header of the loop or the server knows a backend: only their .cc may."""
    for path, is_ours, header in includes_of(tree):
        if is_ours and BACKEND_HEADERS.fullmatch(header) and path.endswith(".h"):
            if path.startswith(("net/loop/", "net/server/")):
                yield f"{path} includes {header}; only a .cc may"


def includes_are_rooted(tree):
    """Our own headers are named from the root of the repository, and exist."""
    for path, is_ours, header in includes_of(tree):
        if is_ours and header not in tree:
            yield f'{path} includes "{header}", which is not a file here'


def simdjson_stays_in_json(tree):
    """Only proto/json*, jwt.* and utf8.* know simdjson; liburing and epoll stay in net/."""
    for path, _, header in includes_of(tree):
        folder = path.split("/")[0]
        is_json = SIMDJSON_FILES.fullmatch(path) or folder not in LAYERS
        if header.startswith("simdjson") and not is_json:
            yield f"{path} includes {header}; only proto/json*, jwt.* and utf8.* may"
        if KERNEL_HEADERS.fullmatch(header) and folder in ("core", "proto", "tools"):
            yield f"{path} includes {header}; only net/ may"


def core_has_no_kernel(tree):
    """core/ and proto/ include no header of clocks, threads, files or system calls."""
    for path, is_ours, header in includes_of(tree):
        if is_ours or not path.startswith(("core/", "proto/")):
            continue
        if path.startswith("proto/tls/") and TLS_RECORDS_HEADERS.fullmatch(header):
            continue
        if (path, header) not in CORE_HEADERS_ALLOWED and CORE_HEADERS_DENIED.fullmatch(header):
            yield f"{path} includes <{header}>; the clock, threads and the kernel are net/'s"


def core_symbols(tree):
    """The objects of core/ call nothing that reads clocks, starts threads or enters the kernel."""
    for path, text in tree.items():
        if path.startswith("objects/"):
            name = os.path.basename(path)
            for symbol in sorted(set(text.split()) - SYMBOLS_ALLOWED.get(name, set())):
                if SYMBOLS_DENIED.fullmatch(symbol):
                    yield f"core/{name} uses {symbol}"


def top_level_is_closed(tree):
    """The top level holds what the design lists, and dot-files."""
    for name in sorted({path.split("/")[0] for path in tree}):
        if name not in TOP_LEVEL and not name.startswith("."):
            yield f"{name} at the top level; it belongs into one of {', '.join(sorted(TOP_LEVEL))}"


def files_say_their_purpose(tree):
    """A source file says in its first lines what it is for."""
    for path, text in tree.items():
        if path.endswith(COMMENTED) and not re.match(
                r"""(#!.*\n)?(<!doctype.*\n)?(//|/\*|\#[ ]|\"\"\"|<!--)""", text, re.I):
            yield f"{path} does not begin with a comment that says its purpose"


def lines_fit(tree):
    """No line of code, and none of the Makefile, is longer than 100 columns."""
    for path, number, line in lines_of(tree, CODE + ("Makefile",)):
        if len(line) > COLUMNS_MAX:
            yield f"{path}:{number} has {len(line)} columns"


def no_tabs(tree):
    """C++ is indented with spaces; no line ends with white space."""
    for path, number, line in lines_of(tree, CPP + (".py", ".sh")):
        if "\t" in line and path.endswith(CPP):
            yield f"{path}:{number} has a tab"
        if line != line.rstrip():
            yield f"{path}:{number} ends with white space"


def nothing_is_left_open(tree):
    """No mark that something is still to be done: it is done, or it is an issue."""
    for path, number, line in lines_of(tree, CODE + (".md", "Makefile")):
        if MARKS.search(line):
            yield f"{path}:{number} holds the mark {MARKS.search(line)[0]}"


def function_start(lines, last):
    """Where the signature begins that ends on line `last`: where its parentheses balance."""
    depth = 0
    for number in range(last, max(-1, last - 20), -1):
        depth += lines[number].count(")") - lines[number].count("(")
        if depth <= 0:
            return number
    return last


def functions_fit_a_screen(tree):
    """No function is longer than 70 lines (clang-tidy checks the same with a parser)."""
    opens = re.compile(r"\)[\w\s:<>,&*\->]*\{$")
    control = re.compile(r"\s*(\}\s*)?(if|for|while|switch|catch|else|do|namespace|struct|class)\b")
    for path, text in tree.items():
        if not path.endswith((".h", ".cc")):
            continue
        lines = text.splitlines()
        for number, line in enumerate(lines):
            if not opens.search(line):
                continue
            first = lines[function_start(lines, number)]
            if control.match(first):
                continue
            close = " " * (len(first) - len(first.lstrip())) + "}"
            for end in range(number + 1, len(lines)):
                if lines[end].startswith(close):
                    if end - number - 1 > FUNCTION_LINES_MAX:
                        yield f"{path}:{number + 1} is a function of {end - number - 1} lines"
                    break


def banners_are_whole(tree):
    """A line of dashes that heads a section has its title on the same line."""
    for path, text in tree.items():
        if not path.endswith(CODE + ("Makefile",)):
            continue
        lines = text.splitlines() + ["", ""]
        for number, (line, below, after) in enumerate(zip(lines, lines[1:], lines[2:]), 1):
            broken = re.match(r"(//|#) -{20,} \S", line) and re.match(r"(//|#) [a-z]", below)
            if broken and after == "":
                yield f"{path}:{number} is a banner whose title goes on in the next line"


def things_are_no_persons(tree):
    """A peer, a thread, a reactor is "it", and what is absent is "no peer", "no thread"."""
    for path, number, line in lines_of(tree, COMMENTED + (".md",)):
        for word in PERSONS.findall(line):
            yield f"{path}:{number} says '{word}'; name the thing, or say 'it' or 'none'"


def messages_say_what_is_not(tree):
    """Text that users see says "is not a number", never the shorter form."""
    for path, number, line in lines_of(tree, CODE + (".html",)):
        for literal in LITERAL.findall(line):
            if re.search(r"(?<!there )\bis no [a-z]", literal):
                yield f"{path}:{number} says {literal}; write 'is not a'"


def bytes_are_bytes(tree):
    """Eight bits are a byte; only a quotation of an RFC has another word for them."""
    for path, number, line in lines_of(tree, COMMENTED + (".md",)):
        if EIGHT_BITS.search(RFC_QUOTATION.sub("", line)):
            yield f"{path}:{number} says {EIGHT_BITS.search(line)[0]}; write byte"


def comments_have_no_orphans(tree):
    """No comment ends in a line of one or two words below a line of 88 columns or more."""
    for path, text in tree.items():
        if not path.endswith(CODE + ("Makefile",)):
            continue
        lines = text.splitlines() + [""]
        for number, (above, line, below) in enumerate(zip(lines, lines[1:], lines[2:] + [""]), 2):
            mark = COMMENT_LINE.match(line)
            if not mark or len(above) < ORPHAN_COLUMNS_MIN or not COMMENT_LINE.match(above):
                continue
            goes_on = COMMENT_LINE.match(below) and COMMENT_LINE.match(below)[2].strip()
            if mark[2].strip() and len(mark[2].split()) <= 2 and not goes_on:
                yield f"{path}:{number} leaves '{mark[2].strip()}' alone; reword the comment"


def literals_are_not_stubs(tree):
    """A string literal that goes on in the next line has 12 characters or more on each."""
    for path, text in tree.items():
        if not path.endswith(CPP):
            continue
        lines = text.splitlines()
        for number, (line, below) in enumerate(zip(lines, lines[1:]), 1):
            first, second = LITERAL_LAST.search(line), LITERAL_FIRST.match(below)
            if not first or not second or re.search(r"\\[nr0x]\w*$", first[1]):
                continue
            for at, piece in ((number, first[1]), (number + 1, second[1])):
                if len(piece) < STUB_CHARACTERS_MIN:
                    yield f'{path}:{at} breaks a string literal into the stub "{piece}"'


def code_of(text):
    return re.sub(r"//.*", "", text)


def uses_outside(tree, defined_in, pattern):
    """Whether code of the layers, but that of `defined_in`, matches."""
    return any(re.search(pattern, code_of(text)) for path, text in tree.items()
               if path.endswith(CPP) and path != defined_in and path.split("/")[0] in LAYERS)


def limits_are_used(tree):
    """Every bound of a limits file is used outside that file, so that it is enforced."""
    for path, text in tree.items():
        if os.path.basename(path) != "limits.h":
            continue
        for name in re.findall(r"^inline constexpr [\w:]+ (k\w+)", text, re.M):
            if not uses_outside(tree, path, rf"\b{name}\b"):
                yield f"{path} defines {name}, and nothing uses it"


# Tables of one line each: the file, what a line looks like, and what the code that uses one has.
TABLES = (("core/close_reason.def", r"^X\((\w+),", r"CloseReason::{}\b"),
          ("core/metrics.def", r"^X\((\w+),", r"Metric::{}\b"),
          ("core/gauges.def", r"^X\((\w+),", r"gauges\.{} \+?= "),
          ("core/distributions.def", r"^X\((\w+),", r"distributions\.{}\.record\("),
          ("net/io/io_counters.def", r"^X\((\w+),", r"counters_\.{}\b"),
          ("core/auth_failure.h", r"^ +X\((\w+), +\"", r"AuthFailure::{}\b"),
          ("net/sim/faults.h", r"^ +X\((\w+), +\"", r"Fault::{}\b"))


def what_is_named_can_happen(tree):
    """Every line of a table (close reasons, what is measured, faults) occurs in code outside it."""
    for path, line, use in TABLES:
        text = tree.get(path, "")
        listed = re.split(r"#define PULSE_[A-Z_]+\(X\)", text, 1)[-1].partition("\n\n")[0]
        if path.endswith(".def"):
            listed = text
        for name in re.findall(line, listed, re.M):
            if not uses_outside(tree, path, r"\b" + use.format(name)):
                yield f"{path} lists {name}, and no code has {use.format(name)}"


def statistics_are_described(tree):
    """net/README.md refers to each table of --stats-json, and names no member that none has."""
    section = tree.get("net/README.md", "").partition("\n## Statistics")[2].partition("\n## ")[0]
    members = ""
    for path in [path for path in tree if path.endswith(".def") and path != PROTOCOLS]:
        members += tree[path]
        if f"`{path}`" not in section:
            yield f"net/README.md, Statistics, does not refer to `{path}`"
    members += tree.get("net/server/stats.cc", "") + tree.get("net/loop/reactor_json.cc", "")
    for name in re.findall(r"`([a-z]+(?:_[a-z0-9]+)+)`", section):
        if not re.search(rf"\b{name}\b", members):
            yield f"net/README.md, Statistics, names `{name}`, which is not a member"


def libraries_by_their_front_door(tree):
    """No internals of a library: the next version may lack them."""
    for path, number, line in lines_of(tree, CPP):
        for name in re.findall(r"\b(?:CLI|nlohmann|toml|fmt|spdlog)::(?:detail|impl)\b", line):
            yield f"{path}:{number} uses {name}"


def no_machine_is_named(tree):
    """No path of one machine, no package registry's host."""
    for path, number, line in lines_of(tree, CODE + (".md", ".json", ".toml", ".yml", "Makefile")):
        if MACHINE_PATHS.search(line):
            yield f"{path}:{number} names {MACHINE_PATHS.search(line)[0]}"


def readmes_name_what_exists(tree):
    """Files, folders and make targets that a README names in `code` are there."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", tree.get("Makefile", ""), re.M))
    for path, text in tree.items():
        if not path.endswith(".md"):
            continue
        quoted = re.findall(r"`([^`\n]+)`", text)
        quoted += re.findall(r"^```.*?\n(.*?)^```", text, re.M | re.S)
        for piece in quoted:
            for target in re.findall(r"(?:^|[\s;&])make ([a-z][a-z-]*)(?![\w/-])", piece):
                if target not in targets:
                    yield f"{path} says `make {target}`; the Makefile has no such target"
            folder = r"(?<![\w./-])(?:core|proto|net|tools|tests|bench)/[\w./-]*"
            for name in re.findall(folder, piece):
                name = name.rstrip("./")
                if re.search(r"\b(FOLDER|NAME)", name):
                    continue  # a pattern
                if name not in tree and not any(other.startswith(name + "/") for other in tree):
                    yield f"{path} names `{name}`, which is not here"


def readme_flags_exist(tree):
    """Flags that a README gives to a program are in that program's --help."""
    helps = {name: tree[f"help/{name}"] for name in PROGRAMS if f"help/{name}" in tree}
    for path, text in tree.items():
        if not path.endswith(".md"):
            continue
        for line in text.replace("\\\n", " ").splitlines():
            for name, flags in re.findall(r"build/(\w+)((?:\s+[^`|;&>]*)?)", line):
                for flag in re.findall(r"(?<!\S)--[a-z][a-z-]*", flags):
                    if name in helps and not re.search(re.escape(flag) + r"(?![\w-])", helps[name]):
                        yield f"{path} runs `{name} {flag}`; its --help does not list that flag"


def mutants_are_of_this_code(tree):
    """What a script of mutants replaces is there, once: another would test nothing."""
    for path in [path for path in tree if path.endswith("_mutants.py")]:
        names = {"__name__": "mutants", "__file__": os.path.join(ROOT, path)}
        exec(compile(tree[path], path, "exec"), names)
        for name, (file, old, _) in names["MUTANTS"].items():
            if (count := tree.get(file, "").count(old)) != 1:
                yield f"{path}: {name}: '{old}' is {count} times in {file}"


def programs_link_what_they_use(tree):
    """What the Makefile links to a program (LIBS_NAME) is what that program uses."""
    makefile = tree.get("Makefile", "")
    for path in [path for path in tree if path.startswith("needed/")]:
        name = path.removeprefix("needed/")
        listed = re.search(rf"^LIBS_{name} :=(.*)", makefile, re.M)
        used = set(re.findall(r"\[lib([\w+-]+)\.so", tree[path]))
        for library in re.findall(r"-l([\w+-]+)", listed[1] if listed else ""):
            if library not in used:
                yield f"the Makefile links {name} to {library}, which it does not use"


# Each rule with a tree that breaks it.
RULES = [
    (includes_go_down, {"core/a.h": '#include "net/b.h"\n'}),
    (includes_go_down, {"net/a.h": '#include "tests/support/b.h"\n'}),
    (includes_are_rooted, {"core/a.cc": '#include "a.h"\n', "core/a.h": "// A.\n"}),
    (simdjson_stays_in_json, {"proto/jsonl.cc": "#include <simdjson.h>\n"}),
    (simdjson_stays_in_json, {"tools/x/main.cc": "#include <liburing.h>\n"}),
    (core_has_no_kernel, {"core/a.cc": "#include <chrono>\n"}),
    (core_has_no_kernel, {"proto/a.cc": "#include <sys/socket.h>\n"}),
    (core_has_no_kernel, {"proto/a.cc": "#include <openssl/evp.h>\n"}),
    (core_has_no_kernel, {"proto/tls/a.cc": "#include <openssl/ssl.h>\n"}),
    (net_has_inner_layers, {"net/loop/a.h": '#include "net/server/a.h"\n'}),
    (net_has_inner_layers, {"net/protocols/a.cc": '#include "net/loop/a.h"\n'}),
    (net_has_inner_layers, {"net/io/a.cc": '#include "net/protocols/a.h"\n'}),
    (net_has_inner_layers, {"net/client/a.cc": '#include "net/loop/a.h"\n'}),
    (pulseload_has_inner_layers, {
        "tools/pulseload/run/a.cc": '#include "tools/pulseload/report/a.h"\n'}),
    (pulseload_has_inner_layers, {
        "tools/pulseload/report/a.cc": '#include "tools/pulseload/options.h"\n'}),
    (pulseload_has_inner_layers, {
        "tools/pulseload/report/a.cc": '#include "tools/pulseload/run/worker.h"\n',
        "tools/pulseload/run/worker.h": '#include "tools/pulseload/run/crowd.h"\n'}),
    (backends_stay_below, {"net/loop/a.h": '#include "net/io/epoll_backend.h"\n'}),
    (core_symbols, {"objects/wheel.o": "_Znwm clock_gettime memcpy"}),
    (core_symbols, {"objects/wheel.o": "_ZNSt6chrono3_V212steady_clock3nowEv"}),
    (top_level_is_closed, {"docs/a.md": "", "Makefile": ""}),
    (files_say_their_purpose, {"core/a.h": "#pragma once\n"}),
    (lines_fit, {"core/a.h": "// " + "x" * 98 + "\n"}),
    (no_tabs, {"core/a.h": "\tint a;\n"}),
    (nothing_is_left_open, {"core/a.h": "// TO" "DO: the rest\n"}),
    (functions_fit_a_screen, {"core/a.cc": "int f(int a,\n  int b) {\n" + "    a;\n" * 71 + "}\n"}),
    (lines_fit, {"Makefile": "all: " + "x" * 98 + "\n"}),
    (banners_are_whole, {"core/a.h": "// " + "-" * 80 + " the\n// ring\n\nint a;\n"}),
    (limits_are_used, {"net/io/limits.h": "inline constexpr int kMost = 1;\n"
                                          "static_assert(kMost > 0);\n"}),
    (things_are_no_persons, {"core/a.h": "// The thread that wakes: h" "e reads first.\n"}),
    (things_are_no_persons, {"README.md": "Read by nobod" "y.\n"}),
    (messages_say_what_is_not, {"tools/a.cc": 'fail(name + " is no" " number");\n'.replace(
        '" "', "")}),
    (bytes_are_bytes, {"proto/a.h": "// The first octe" "t decides.\n"}),
    (comments_have_no_orphans, {"core/a.h": "// " + "x" * 90 + "\n// the end\nint a;\n"}),
    (literals_are_not_stubs, {"core/a.cc": 'say("all of the text, almost, and then"\n'
                                           '    " a stub");\n'}),
    (limits_are_used, {"core/limits.h": "inline constexpr size_t kMost = 1;\n",
                       "core/a.cc": "// kMost is the most\nint a = kMostOfAll;\n",
                       "tests/core/a_test.cc": "int a = kMost;\n"}),
    (what_is_named_can_happen, {"core/close_reason.def": 'X(gone, 1000, "gone")\n',
                                "net/a.cc": "// CloseReason::gone\n"}),
    (what_is_named_can_happen, {"core/metrics.def": 'X(turns, "turns", "Passes")\n'}),
    (what_is_named_can_happen, {"core/gauges.def": 'X(live, "connections", count, sum, "Open")\n',
                                "net/a.cc": "use(stats.gauges.live);\n"}),
    (what_is_named_can_happen, {"core/distributions.def": 'X(turn_time, "Turns")\n',
                                "net/a.cc": "use(distributions.turn_time);\n"}),
    (what_is_named_can_happen, {"net/io/io_counters.def": 'X(polls, "Calls of poll()")\n'}),
    (statistics_are_described, {"net/README.md": "\n## Statistics\n", "core/gauges.def": ""}),
    (statistics_are_described, {"net/README.md": "\n## Statistics\n`core/a.def` `gone_us`\n",
                                "core/a.def": 'X(judge_lag, "judge_lag_us")\n'}),
    (what_is_named_can_happen, {"net/sim/faults.h": "#define PULSE_SIM_FAULTS(X) \\\n"
                                                    '    X(storm, "all leave")\n\n'}),
    (libraries_by_their_front_door, {"tools/a.cc": "CLI::detail::split(a, ',');\n"}),
    (no_machine_is_named, {"README.md": "see /ro" "ot/notes\n"}),
    (readmes_name_what_exists, {"README.md": "`make fly`", "Makefile": "all:\n"}),
    (readmes_name_what_exists, {"README.md": "see `core/gone.h`"}),
    (programs_link_what_they_use, {
        "needed/pulseload": "Shared library: [libz.so.1]",
        "Makefile": "LIBS_pulseload := -luring -lz\n"}),
    (mutants_are_of_this_code, {"tests/a_mutants.py": 'MUTANTS = {"a": ("core/a.cc", "x", "y")}\n',
                                "core/a.cc": "int y;\n"}),
    (readme_flags_exist, {"README.md": "build/pulsewheel --fly 3", "help/pulsewheel": "--flying"}),
]


def repository():
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others",
         "--exclude-standard"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.decode()
    tree = {}
    for path in filter(None, listed.split("\0")):
        try:
            with open(os.path.join(ROOT, path), encoding="utf-8") as file:
                tree[path] = file.read()
        except (UnicodeDecodeError, FileNotFoundError):
            tree[path] = ""  # an archive, or one that is deleted but not yet committed
    for source in [path for path in tree if re.fullmatch(r"core/\w+\.cc", path)]:
        built = os.path.join(BUILD, "release", source[:-2] + "o")
        if os.path.exists(built):
            tree["objects/" + os.path.basename(built)] = subprocess.run(
                ["nm", "-u", "-j", built], stdout=subprocess.PIPE, check=True).stdout.decode()
    for name in PROGRAMS:
        program = os.path.join(BUILD, name)
        if os.path.exists(program):
            tree["help/" + name] = subprocess.run(
                [program, "--help"], stdout=subprocess.PIPE, timeout=10, check=True).stdout.decode()
            tree["needed/" + name] = subprocess.run(
                ["readelf", "-d", program], stdout=subprocess.PIPE, check=True).stdout.decode()
    return tree


def main():
    tree = repository()
    built = ("objects/", "help/", "needed/")
    sources = {path: tree[path] for path in tree if not path.startswith(built)}
    needs = {core_symbols: "objects/", readme_flags_exist: "help/",
             programs_link_what_they_use: "needed/"}
    passed = failed = skipped = 0
    for rule in dict.fromkeys(rule for rule, _ in RULES):
        need = needs.get(rule)
        if need and not any(path.startswith(need) for path in tree):
            print(f"SKIPPED {rule.__name__}: nothing is built in {BUILD}")
            skipped += 1
            continue
        complaints = list(rule(tree if need else sources))
        print(f"{'FAIL' if complaints else 'ok'}  {rule.__name__}: {rule.__doc__.splitlines()[0]}")
        for complaint in complaints:
            print(f"      {complaint}")
        passed, failed = passed + (not complaints), failed + bool(complaints)
    for rule, breach in RULES:
        seen = list(rule(breach))
        print(f"{'ok' if seen else 'FAIL'}  {rule.__name__} sees a breach in {', '.join(breach)}")
        passed, failed = passed + bool(seen), failed + (not seen)
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
