// How many connections a reactor has, by what they speak and where they are in their life: counted
// where one of the two changes, so that no reading of it visits connections.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/connection.h"

namespace pulse {

class Population {
  public:
    static constexpr size_t kStages = static_cast<size_t>(Stage::closed) + 1;
    // By Connection::protocol and Stage.
    using Counts = std::vector<std::array<uint32_t, kStages>>;

    explicit Population(size_t protocols) : counts_(protocols) {}

    void enters(const Connection& connection) { ++at(connection); }
    void leaves(const Connection& connection) { --at(connection); }
    const Counts& counts() const { return counts_; }

    static void add(Counts& to, const Counts& other) {
        if (to.size() < other.size()) to.resize(other.size());
        for (size_t protocol = 0; protocol < other.size(); ++protocol)
            for (size_t stage = 0; stage < kStages; ++stage)
                to[protocol][stage] += other[protocol][stage];
    }

  private:
    uint32_t& at(const Connection& connection) {
        return counts_[connection.protocol][static_cast<size_t>(connection.stage)];
    }

    Counts counts_;
};

}  // namespace pulse
