// Keys of prefixes, and shares.
#include "core/anomaly/holders.h"

#include <algorithm>
#include <type_traits>

#include "core/check.h"

namespace pulse {
namespace {

constexpr uint8_t kNearBits4 = 24;
constexpr uint8_t kFarBits4 = 16;
constexpr uint8_t kNearBits6 = 48;
constexpr double kMost = 0.5;

template <class Table>
auto share_of(const Table& table, uint64_t all) {
    using Key = std::remove_cvref_t<decltype(table.top()->key)>;
    std::optional<Holders::Share<Key>> share;
    const auto* const top = table.top();
    if (top == nullptr || all == 0) return share;
    const double part = static_cast<double>(top->least()) / static_cast<double>(all);
    if (part >= kMost) share = {top->key, top->least(), part};
    return share;
}

}  // namespace

NetworkPrefix prefix_of(const PeerAddress& address, uint8_t bits) {
    PULSE_ASSERT(address.present() && bits % 8 == 0);
    NetworkPrefix prefix{address.family, bits, {}};
    std::copy_n(address.bytes.begin(), bits / 8, prefix.bytes.begin());
    return prefix;
}

void Holders::add(const PeerAddress& address, uint8_t listener) {
    listeners_.add(listener);
    if (!address.present()) return;
    if (address.family == 6) {
        near_.add(prefix_of(address, kNearBits6));
        return;
    }
    near_.add(prefix_of(address, kNearBits4));
    far_.add(prefix_of(address, kFarBits4));
}

void Holders::add(const Holders& other) {
    near_.add(other.near_);
    far_.add(other.far_);
    listeners_.add(other.listeners_);
}

std::optional<Holders::Share<NetworkPrefix>> Holders::prefix() const {
    if (const auto near = share_of(near_, total())) return near;
    return share_of(far_, total());
}

std::optional<Holders::Share<uint8_t>> Holders::listener() const {
    return share_of(listeners_, total());
}

}  // namespace pulse
