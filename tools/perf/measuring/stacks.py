"""Stacks that profilers print, folded: {(root, ..., leaf): weight}.

Frames of the kernel end in `_[k]`, as in the files of other flame graph tools. The root is the
thread's name.
"""
import re

KERNEL = "_[k]"
HEAD = re.compile(r"^(\S.*?)\s+(\d+)\s+(\d+\.\d+):")
FRAME = re.compile(r"^\s+[0-9a-f]+ (.+) \((.+)\)$")
SWITCH = re.compile(r"PERF_RECORD_SWITCH(?:_CPU_WIDE)? (IN|OUT)")
GDB_THREAD = re.compile(r'^Thread \d+ \(.*?LWP (\d+)\)(?: "(.*?)")?')
GDB_FRAME = re.compile(r"^#\d+\s+(?:0x[0-9a-f]+ in )?(.+?) "
                       r"\((?:[\w$@]+=\.\.\.(?:, )?|\.\.\.)*\)(?: |$)")
TASK_STATE = re.compile(r"^(\d+) \(.*\) ([A-Z]) \d")
SCHEDULER = ("schedule", "__schedule")  # above what a thread waits for, in each stack
BOTTOM = ("[unknown]", "??", "clone", "clone3", "start_thread", "__clone", "__clone3",
          "__libc_start_call_main", "__libc_start_main_impl", "__libc_start_main", "_start")


def added(folded, stack, weight):
    if weight > 0:
        folded[stack] = folded.get(stack, 0) + weight


def frame_of(line):
    """A frame's name as perf script has it; None where the line is not one."""
    found = FRAME.match(line)
    if not found:
        return None
    name, where = found[1], found[2]
    if name == "[unknown]" and not where.startswith("[unknown"):
        name = f"[{where.rpartition('/')[2].strip('[]')}]"
    return name + (KERNEL if "kernel" in where or where.endswith(".ko") else "")


def stack_of(thread, leaf_first):
    """Root first, without the frames below main() and a thread's function."""
    frames = list(leaf_first)
    while frames and frames[-1].removesuffix(KERNEL) in BOTTOM:
        frames.pop()
    return (thread, *reversed(frames))


def samples_of(text):
    """(thread's name, its number, time, frames leaf first, or IN or OUT) of perf script's text."""
    thread, frames = None, []
    for line in text.splitlines():
        if not line.strip():
            if thread and frames:
                yield (*thread, frames)
            thread, frames = None, []
            continue
        head = HEAD.match(line)
        switch = SWITCH.search(line)
        if head and switch:
            yield (head[1], int(head[2]), float(head[3]), switch[1])
        elif head:
            thread = (head[1], int(head[2]), float(head[3]))
        elif thread and (frame := frame_of(line)):
            frames.append(frame)
    if thread and frames:
        yield (*thread, frames)


def on_cpu(text):
    """Weights are samples."""
    folded = {}
    for name, _, _, frames in samples_of(text):
        if isinstance(frames, list):
            added(folded, stack_of(name, frames), 1)
    return folded


def off_cpu(text):
    """Weights are microseconds: from the stack that left the core until the thread was back."""
    folded, left = {}, {}
    for name, number, at, frames in samples_of(text):
        if isinstance(frames, list):
            while len(frames) > 1 and frames[0].removesuffix(KERNEL) in SCHEDULER:
                frames.pop(0)
            left[number] = (at, stack_of(name, frames))
        elif frames == "IN" and number in left:
            since, stack = left.pop(number)
            added(folded, stack, round((at - since) * 1e6))
    return folded


def from_gdb(text):
    """(on a core, off it) of the samples that gdb printed; weights are samples."""
    running, waiting, states = {}, {}, {}
    thread, frames = None, []

    def finish():
        if thread and frames:
            here = running if states.get(thread[0]) == "R" else waiting
            added(here, stack_of(thread[1] or "thread", frames), 1)
    for line in text.splitlines():
        state, head = TASK_STATE.match(line), GDB_THREAD.match(line)
        if state or head:
            finish()
            frames = []
            thread = (int(head[1]), head[2]) if head else None
        if state:
            states[int(state[1])] = state[2]
        elif thread and (found := GDB_FRAME.match(line)):
            frames.append(found[1])
    finish()
    return running, waiting


def to_text(folded):
    """A line a stack: frames with `;`, and the weight."""
    return "".join(f"{';'.join(frame.replace(';', ':') for frame in stack)} {weight}\n"
                   for stack, weight in sorted(folded.items()))


def of_text(text):
    """What to_text() wrote. Raises ValueError where a line is none of it."""
    folded = {}
    for line in text.splitlines():
        frames, _, weight = line.rpartition(" ")
        if not frames:
            raise ValueError(f"'{line[:40]}' is not a stack and a weight")
        added(folded, tuple(frames.split(";")), int(weight))
    return folded


def shares(folded):
    """(by the leaf, by any frame of it): {name: weight}, each stack counted once a name."""
    own, whole = {}, {}
    for stack, weight in folded.items():
        added(own, stack[-1], weight)
        for name in set(stack[1:]):
            added(whole, name, weight)
    return own, whole


def kind(name):
    """Whose code a frame is: kernel, ours or library."""
    if name.endswith(KERNEL):
        return "kernel"
    return "ours" if name.startswith("pulse::") or name == "main" else "library"
