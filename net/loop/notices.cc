// The words.
#include "net/loop/notices.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "net/loop/limits.h"

namespace pulse {

void Notices::foreign(std::string_view protocol, std::string_view connection,
                      std::string_view listener) {
    if (!warn_) return;
    if (foreign_.waiting++ == 0) first_foreign_ = fmt::format("{} on {}", connection, listener);
    const auto known = std::ranges::find(protocols_, protocol, &Count::protocol);
    if (known == protocols_.end())
        protocols_.push_back({protocol, 1});
    else
        ++known->connections;
}

void Notices::completions_lost(uint64_t total) {
    if (total == 0 || !warn_ || std::exchange(loss_logged_, true)) return;
    warn_(
        fmt::format("reactor {}: the kernel had no memory for {} completions of io_uring and "
                    "dropped them; connections that lost something are closed with io_error, the "
                    "others go on, and no further loss is logged (completions_lost counts them); "
                    "free memory, or use --backend epoll",
                    reactor_, total));
}

void Notices::cannot_spread(int error) {
    if (!warn_) return;
    warn_(
        fmt::format("SO_ATTACH_REUSEPORT_CBPF: {}; the kernel spreads connections over the "
                    "reactors by its hash, and of few source addresses one may hold more than "
                    "others; allow it (seccomp), or raise net.core.optmem_max",
                    std::strerror(error)));
}

void Notices::report(Nanos now, size_t held_bytes, size_t bytes_max) {
    constexpr size_t kKibibyte = 1'024;
    if (now >= gave_way_.due_at()) {
        warn_(
            fmt::format("reactor {} is short of buffers: {} connections were closed with "
                        "out_of_memory since the last such line, the largest holder first; {} of "
                        "{} KiB are held; raise --buffer-bytes, or lower --max-message-bytes",
                        reactor_, std::exchange(gave_way_.waiting, 0), held_bytes / kKibibyte,
                        bytes_max / kKibibyte));
        gave_way_.next_at = now + kShortageNoticeNs;
    }
    if (now >= foreign_.due_at()) {
        std::string counts;
        for (const Count& count : std::exchange(protocols_, {}))
            counts += fmt::format("{}{} {}", counts.empty() ? "" : ", ", count.connections,
                                  count.protocol);
        warn_(
            fmt::format("reactor {}: {} connections began with a protocol that their listener "
                        "does not speak since the last such line ({}; the first was {}); point "
                        "these clients to another port",
                        reactor_, std::exchange(foreign_.waiting, 0), counts, first_foreign_));
        foreign_.next_at = now + kForeignNoticeNs;
    }
}

}  // namespace pulse
