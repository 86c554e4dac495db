"""What hostcheck.sh looks at of the network: queues of listeners, ports, memory, cards."""
import os
import re

from measuring.host import Finding

BACKLOG = 4_096
PORTS_AN_ADDRESS = 28_000
PAGE_BYTES = 4_096
SOCKET_PAGES_A_CONNECTION = 0.25  # of the mostly silent: most have no page in a queue
SLOW_RECEIVE_QUEUE = 1_000


def backlog(host, _):
    return host.at_least("net.core.somaxconn", BACKLOG, "should",
                         "connects that wait to be accepted; beyond it a storm of reconnects is "
                         "dropped and comes back a second later")


def half_open(host, _):
    return host.at_least("net.ipv4.tcp_max_syn_backlog", BACKLOG, "should",
                         "handshakes in progress of a listener")


def receive_backlog(host, _):
    return host.at_least("net.core.netdev_max_backlog", 10 * SLOW_RECEIVE_QUEUE, "should",
                         "packets that wait for a core; over loopback and with RPS a burst of "
                         "heartbeats overflows a small one")


def cookies(host, _):
    value = host.sysctl("net.ipv4.tcp_syncookies")
    if value == "2":
        return Finding("should", "net.ipv4.tcp_syncookies", value,
                       "each handshake loses its options (window scale) and costs a hash",
                       "sysctl -w net.ipv4.tcp_syncookies=1")
    return Finding("unknown" if value is None else "ok", "net.ipv4.tcp_syncookies", value,
                   "0 or 1: used at most where the backlog is full")


def ports(host, _):
    value = host.sysctl("net.ipv4.ip_local_port_range")
    why = ("what a load generator (or a balancer) on this machine connects from; each of its "
           "addresses has so many a target, and past half of them a connect is slow")
    fields = (value or "").split()
    if len(fields) != 2:
        return Finding("unknown", "net.ipv4.ip_local_port_range", value, why)
    count = int(fields[1]) - int(fields[0]) + 1
    if count >= PORTS_AN_ADDRESS:
        return Finding("ok", "net.ipv4.ip_local_port_range", f"{count:,} ports", why)
    return Finding("should", "net.ipv4.ip_local_port_range", f"{count:,} ports", why,
                   "sysctl -w net.ipv4.ip_local_port_range='10000 65535'")


def queue_memory(host, connections):
    value = host.sysctl("net.ipv4.tcp_mem")
    why = "pages in all TCP queues; beyond the third number the kernel drops what arrives"
    fields = (value or "").split()
    if len(fields) != 3:
        return Finding("unknown", "net.ipv4.tcp_mem", value, why)
    wanted = int(connections * SOCKET_PAGES_A_CONNECTION)
    if int(fields[2]) >= wanted:
        return Finding("ok", "net.ipv4.tcp_mem", value, why)
    return Finding("must", "net.ipv4.tcp_mem", value,
                   f"{why}; {wanted * PAGE_BYTES >> 20:,} MiB are wanted",
                   f"sysctl -w net.ipv4.tcp_mem='{wanted // 2} {wanted * 3 // 4} {wanted}'")


def tracked(host, connections):
    """Connection tracking has a table of its own, where a rule asks for it."""
    most, now = (host.sysctl(f"net.netfilter.nf_conntrack_{name}") for name in ("max", "count"))
    why = "a firewall that tracks drops connections that find no place in its table"
    if most is None or now in (None, "0"):
        return Finding("ok", "connection tracking", "not loaded" if most is None else
                       "tracks nothing", why)
    if int(most) >= connections * 1.2:
        return Finding("ok", "connection tracking", f"{now} of {most}", why)
    return Finding("must", "connection tracking", f"{now} of {most}", why,
                   f"sysctl -w net.netfilter.nf_conntrack_max={int(connections * 1.2)}; better, do "
                   "not track the server's port (nft: notrack)")


def cards(host):
    """Names of network devices that are hardware, or a virtual machine's."""
    return [path.split("/")[3] for path in host.find("sys/class/net/*/device")]


def queues_of(host, card):
    return len(host.find(f"sys/class/net/{card}/queues/rx-*"))


def receive_queues(host, _):
    found = []
    for card in cards(host):
        queues, cores = queues_of(host, card), max(1, host.cores())
        spread = any(int((host.read(path) or "0").replace(",", "") or "0", 16)
                     for path in host.find(f"sys/class/net/{card}/queues/rx-*/rps_cpus"))
        if queues >= min(cores, 8) or spread:
            found.append(Finding("ok", f"receive queues of {card}", f"{queues}"
                                 f"{', RPS on' if spread else ''}",
                                 "each is served by one core; packets of all reactors come in by "
                                 "them"))
        else:
            found.append(Finding(
                "should", f"receive queues of {card}", f"{queues} for {cores} cores",
                "all packets come in on few cores, which then limit the others",
                f"ethtool -L {card} combined {cores}; where the card has no more: echo "
                f"{(1 << cores) - 1:x} > /sys/class/net/{card}/queues/rx-0/rps_cpus"))
    return found or [Finding("ok", "receive queues", "no card", "loopback has none")]


def interrupts_of(host, card):
    """{interrupt: cores that may serve it} of a card."""
    served = {}
    lines = (host.read("proc/interrupts") or "").splitlines()
    device = os.path.basename(os.path.realpath(os.path.join(
        host.root, f"sys/class/net/{card}/device")))
    for line in lines[1:]:
        number, _, rest = line.strip().partition(":")
        if number.isdigit() and re.search(
                rf"\b({re.escape(card)}|{re.escape(device)})\b", rest):
            served[int(number)] = host.read(f"proc/irq/{number}/effective_affinity_list") or \
                host.read(f"proc/irq/{number}/smp_affinity_list")
    return served


def interrupt_places(host, _):
    found = []
    for card in cards(host):
        served = {number: place for number, place in interrupts_of(host, card).items() if place}
        if not served:
            found.append(Finding("unknown", f"interrupts of {card}", None,
                                 "where its queues interrupt; /proc/interrupts names none"))
        elif len(served) > 1 and len(set(served.values())) == 1 and host.cores() > 1:
            place = next(iter(served.values()))
            found.append(Finding(
                "should", f"interrupts of {card}", f"{len(served)}, all on core {place}",
                "one core takes all of them", "start irqbalance, or for each N: echo CORE > "
                "/proc/irq/N/smp_affinity_list"))
        else:
            places = ", ".join(f"{number} on {place}" for number, place in sorted(served.items()))
            found.append(Finding("ok", f"interrupts of {card}", places,
                                 "with --pin keep them off the cores of reactors, or one a core"))
    return found


CHECKS = (backlog, half_open, receive_backlog, cookies, ports, queue_memory, tracked,
          receive_queues, interrupt_places)
