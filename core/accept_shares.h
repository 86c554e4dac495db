// How the connections that come are to be shared among the reactors of a server, so that all hold
// about as many: a pure function of what each holds and what each was given since the last look.
//
// The kernel draws a reactor for each connection, by shares. While all hold about as many the
// shares are equal. Where they do not (the draw was uneven, or many of one reactor's left), those
// that lack connections get the more of the next ones, the more they lack. What was drawn and not
// accepted yet is not known here, so none gets more than kAcceptShareMax times the mean; and each
// gets some, since only what the others accept shows that one does not.
//
// A reactor that is full gets none. One that accepted none of what it should have had is taken to
// be stuck: it holds less than the others, and would get the more for it. It gets a small share,
// by which it is seen to go on.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace pulse {

struct ReactorLoad {
    uint32_t live = 0;   // connections that it holds
    uint32_t limit = 0;  // and may hold
    uint64_t came = 0;   // that it accepted or refused, since the start
};

// Of one server. Not for two threads at once.
class AcceptShares {
  public:
    explicit AcceptShares(uint32_t reactors);

    // What each reactor has now. Returns true if other shares hold from now on.
    bool update(std::span<const ReactorLoad> loads);
    // By reactor; their sum is not 0 and fits into 32 bits.
    std::span<const uint32_t> shares() const { return shares_; }
    // Connections that should come between two looks, with so many held.
    static uint64_t look_every(uint64_t live);

  private:
    void find_stuck(std::span<const ReactorLoad> loads);
    void compute(std::span<const ReactorLoad> loads);

    struct Seen {
        uint64_t came = 0;      // until the last look
        uint64_t arrivals = 0;  // between the last two
        // That it should have had by its shares, since it last accepted one.
        uint64_t missed = 0;
        bool stuck = false;
    };
    std::vector<Seen> seen_;
    std::vector<uint32_t> shares_;
    std::vector<uint32_t> before_;
    uint64_t arrivals_ = 0;  // of all, between the last two looks
};

}  // namespace pulse
