"""What hostcheck.sh looks at of the processor, and of what profilers need."""
from measuring.host import Finding

CPU = "sys/devices/system/cpu"
BUSY_LOAD_A_CORE = 0.5


def governors(host, _):
    values = sorted({host.read(path) or "unknown"
                     for path in host.find(f"{CPU}/cpu[0-9]*/cpufreq/scaling_governor")})
    why = "a core that slows down between heartbeats wakes slowly, and two runs differ by its speed"
    if not values:
        return Finding("ok", "CPU governor", "none here", "the host of a virtual machine has it")
    if values == ["performance"]:
        return Finding("ok", "CPU governor", values[0], why)
    return Finding("should", "CPU governor", ", ".join(values), why,
                   "cpupower frequency-set -g performance")


def boost(host, _):
    value, no_turbo = host.read(f"{CPU}/cpufreq/boost"), host.read(
        f"{CPU}/intel_pstate/no_turbo")
    if value == "1" or no_turbo == "0":
        path = "cpufreq/boost" if value else "intel_pstate/no_turbo"
        return Finding("should", "CPU boost", "on", "for measurements only: its clock depends on "
                       "heat and on what other cores do",
                       f"echo {0 if value else 1} > /{CPU}/{path}")
    return Finding("ok", "CPU boost", "off" if value or no_turbo else "not seen here",
                   "for measurements: a clock that does not change")


def idle_states(host, _):
    """A deep one takes long to leave."""
    slow = []
    for path in host.find(f"{CPU}/cpu0/cpuidle/state*"):
        latency = host.read(f"{path}/latency")
        if latency and int(latency) > 100 and host.read(f"{path}/disable") == "0":
            slow.append(f"{host.read(path + '/name')} {latency} us")
    why = "what a core takes to wake is in the latency of each heartbeat that finds it asleep"
    if slow:
        return Finding("should", "CPU idle states", ", ".join(slow), why,
                       "cpupower idle-set -D 100")
    return Finding("ok", "CPU idle states", "none is slower than 100 us, or none is seen", why)


def clock(host, _):
    value = host.read("sys/devices/system/clocksource/clocksource0/current_clocksource")
    why = "each turn reads the clock; one that is not the CPU's own is a system call or a trap"
    if value in ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"):
        return Finding("ok", "clock source", value, why)
    if value is None:
        return Finding("unknown", "clock source", None, why)
    return Finding("should", "clock source", value, why, "boot with clocksource=tsc tsc=reliable, "
                   "where the machine's is sound")


def huge_pages(host, _):
    value = host.read("sys/kernel/mm/transparent_hugepage/enabled")
    if value is not None and "[always]" in value:
        return Finding("should", "transparent huge pages", value,
                       "RSS is a multiple of 2 MiB a mapping, and khugepaged moves memory while "
                       "it is measured", "echo madvise > "
                       "/sys/kernel/mm/transparent_hugepage/enabled")
    return Finding("ok", "transparent huge pages", value or "not seen here", "madvise or never")


def numa(host, _):
    nodes = len(host.find("sys/devices/system/node/node[0-9]*"))
    balancing = host.sysctl("kernel.numa_balancing")
    if nodes > 1 and balancing not in (None, "0"):
        return Finding("should", "NUMA", f"{nodes} nodes, kernel.numa_balancing {balancing}",
                       "the kernel unmaps pages to see which node uses them; with --pin each "
                       "reactor's memory is near already", "sysctl -w kernel.numa_balancing=0")
    return Finding("ok", "NUMA", f"{nodes or 1} node{'s' if nodes > 1 else ''}",
                   "memory of one node is equally near to all cores")


def quota(host, _):
    value = host.read("sys/fs/cgroup/cpu.max")
    if value is None or value.startswith("max"):
        return Finding("ok", "CPU quota", value or "no limit is seen", "a quota that is used up "
                       "stops the process for the rest of its period")
    return Finding("should", "CPU quota", value, "once it is used up the process stands still for "
                   "the rest of the period, as long as a slow turn", "CPUQuota= of the unit, "
                   "--cpus of the container")


def other_work(host, _):
    value = host.read("proc/loadavg")
    if value is None:
        return Finding("unknown", "other work", None, "a busy machine measures itself")
    load, cores = float(value.split()[0]), max(1, host.cores())
    if load > cores * BUSY_LOAD_A_CORE:
        return Finding("should", "other work", f"load {load:g} on {cores} cores",
                       "times that are measured beside other work are that work's, too",
                       "wait until it is done, or count instructions and system calls")
    return Finding("ok", "other work", f"load {load:g} on {cores} cores", "little runs beside")


def profiling(host, _):
    level = host.sysctl("kernel.perf_event_paranoid")
    pointers = host.sysctl("kernel.kptr_restrict")
    cases = (("kernel.perf_event_paranoid", level, 1, "above 1 perf sees no kernel, above 2 "
              "nothing, unless it runs as root"),
             ("kernel.kptr_restrict", pointers, 0, "above 0 a profile has numbers in place of the "
              "kernel's names, unless it runs as root"))
    found = []
    for name, value, most, why in cases:
        if value is None:
            found.append(Finding("unknown", name, None, why))
        elif int(value) <= most or host.privileged:
            found.append(Finding("ok", name, value, why))
        else:
            found.append(Finding("should", name, value, why, f"sysctl -w {name}={most}"))
    return found


CHECKS = (governors, boost, idle_states, clock, huge_pages, numa, quota, other_work, profiling)
