// An array of addresses by index, and the ledger.
#include "net/loop/history.h"

#include <algorithm>

namespace pulse {

bool History::keep(uint32_t entries, bool proxied) {
    if (entries != ledger_.limit()) ledger_.resize(entries);
    if (entries == 0) forget_addresses();
    if (entries == 0 || !proxied || addresses_ != nullptr) return true;
    addresses_ =
        reinterpret_cast<PeerAddress*>(pages_.reserve_small(places_ * sizeof(PeerAddress)));
    return addresses_ != nullptr;
}

void History::forget_addresses() {
    if (addresses_ == nullptr) return;
    pages_.release(reinterpret_cast<std::byte*>(addresses_), places_ * sizeof(PeerAddress));
    addresses_ = nullptr;
    used_ = 0;
}

uint32_t History::accepted(Index index, bool proxied, Nanos now) {
    if (proxied && addresses_ != nullptr) {
        used_ = std::max<uint64_t>(used_, index + 1);
        addresses_[index] = {};
    }
    return kAcceptedMark | static_cast<uint32_t>(units(now));
}

Nanos History::accepted_at(uint32_t user, Nanos now) const {
    const uint32_t age = (static_cast<uint32_t>(units(now)) - user) & ~kAcceptedMark;
    return began_at_ + ((units(now) - age) << kShift);
}

void History::named(Index index, const PeerAddress& address) {
    if (addresses_ != nullptr) addresses_[index] = address;
}

PeerAddress History::address(Index index) const {
    return addresses_ != nullptr && index < used_ ? addresses_[index] : PeerAddress{};
}

size_t History::memory_bytes() const {
    return used_ * sizeof(PeerAddress) + ledger_.memory_bytes();
}

}  // namespace pulse
