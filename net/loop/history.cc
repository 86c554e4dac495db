// Two arrays by index, and the ledger.
#include "net/loop/history.h"

#include <algorithm>
#include <limits>

#include "core/check.h"

namespace pulse {

bool History::keep(uint32_t entries, bool proxied, Nanos now) {
    if (entries == ledger_.limit() && on() == (entries > 0)) return true;
    forget();
    if (entries == 0) return true;
    notes_ = reinterpret_cast<uint32_t*>(pages_.reserve_small(places_ * kBytesEach));
    if (notes_ == nullptr) return false;
    if (proxied) {
        addresses_ =
            reinterpret_cast<PeerAddress*>(pages_.reserve_small(places_ * kProxiedBytesEach));
        if (addresses_ == nullptr) return forget(), false;
    }
    began_at_ = now;
    ledger_ = Ledger(entries);
    return true;
}

void History::forget() {
    const auto give_back = [this](auto*& array) {
        if (array == nullptr) return;
        pages_.release(reinterpret_cast<std::byte*>(array), places_ * sizeof *array);
        array = nullptr;
    };
    give_back(notes_);
    give_back(addresses_);
    used_ = 0;
    ledger_ = Ledger(0);
}

void History::accepted(Index index, bool proxied, Nanos now) {
    if (!on()) return;
    used_ = std::max<uint64_t>(used_, index + 1);
    const Nanos units = ((now - began_at_) >> kShift) + 1;
    notes_[index] =
        units <= std::numeric_limits<uint32_t>::max() ? static_cast<uint32_t>(units) : 0;
    if (proxied && addresses_ != nullptr) addresses_[index] = {};
}

void History::named(Index index, const PeerAddress& address) {
    if (addresses_ != nullptr) addresses_[index] = address;
}

Nanos History::accepted_at(Index index) const {
    if (!on() || notes_[index] == 0) return 0;
    return began_at_ + (Nanos{notes_[index] - 1} << kShift);
}

PeerAddress History::address(Index index) const {
    return addresses_ != nullptr ? addresses_[index] : PeerAddress{};
}

void History::end(Index index, const Evidence& facts) {
    if (on()) notes_[index] = static_cast<uint32_t>(ledger_.add(facts));
}

const Evidence* History::ending(Index index, ConnectionId id) const {
    if (!on()) return nullptr;
    const uint32_t behind = static_cast<uint32_t>(ledger_.next()) - notes_[index];
    if (behind == 0 || behind > ledger_.size()) return nullptr;
    const Evidence* facts = ledger_.find(ledger_.next() - behind);
    return facts != nullptr && facts->id == id ? facts : nullptr;
}

size_t History::memory_bytes() const {
    if (!on()) return 0;
    const size_t each = kBytesEach + (addresses_ != nullptr ? kProxiedBytesEach : 0);
    return used_ * each + ledger_.memory_bytes();
}

}  // namespace pulse
