// Pings and messages that were due and are not answered yet, each with the instant at which it was
// meant to begin. What is not in here was not sent by this thread: an answer to it is ignored, so
// that nothing is computed with instants that a peer made up.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <vector>

#include "core/check.h"
#include "core/types.h"

namespace pulse::load {

struct Due {
    Nanos intended_at = 0;
    Nanos began = 0;
    uint32_t sequence = 0;  // several have the same one where one ping stands for all of them
};

// The pings of one client, oldest first: a list in OutstandingPings' nodes.
struct PingList {
    uint32_t first = 0;  // 0: none
    uint32_t last = 0;
};

// Of all clients of a thread. A client has one of them mostly, and many where its server stalls.
class OutstandingPings {
  public:
    // Fails when `most` are outstanding.
    explicit OutstandingPings(size_t most) : most_(most) { nodes_.emplace_back(); }

    bool add(PingList& list, const Due& due) {
        if (count_ >= most_) return false;
        const uint32_t node = take_node();
        nodes_[node] = {due, 0};
        if (list.first == 0) {
            list.first = node;
        } else {
            nodes_[list.last].next = node;
        }
        list.last = node;
        ++count_;
        return true;
    }
    // Calls take(due) for each up to `sequence` and removes it. A pong may answer only the newest
    // of several pings (RFC 6455 5.5.3), and the older ones are answered with it.
    template <class Take>
    void answer(PingList& list, uint32_t sequence, Take&& take) {
        while (list.first != 0 && !is_after(nodes_[list.first].due.sequence, sequence)) {
            take(remove_first(list));
        }
    }
    // Calls take(due) for each with this sequence and removes it. Older ones stay: where each is
    // answered by itself, in order, they were lost.
    template <class Take>
    void answer_only(PingList& list, uint32_t sequence, Take&& take) {
        uint32_t before = 0;
        uint32_t node = list.first;
        while (node != 0 && !is_after(nodes_[node].due.sequence, sequence)) {
            const uint32_t next = nodes_[node].next;
            if (nodes_[node].due.sequence == sequence) {
                take(nodes_[node].due);
                (before == 0 ? list.first : nodes_[before].next) = next;
                if (next == 0) list.last = before;
                put_back(node);
            } else {
                before = node;
            }
            node = next;
        }
    }
    template <class Take>
    void clear(PingList& list, Take&& take) {
        while (list.first != 0) take(remove_first(list));
    }
    size_t count() const { return count_; }

  private:
    struct Node {
        Due due;
        uint32_t next = 0;
    };

    // On the circle of 32 bits.
    static bool is_after(uint32_t sequence, uint32_t other) {
        return static_cast<int32_t>(sequence - other) > 0;
    }
    uint32_t take_node() {
        if (free_ == 0) {
            nodes_.emplace_back();
            return static_cast<uint32_t>(nodes_.size() - 1);
        }
        const uint32_t node = free_;
        free_ = nodes_[node].next;
        return node;
    }
    Due remove_first(PingList& list) {
        const uint32_t node = list.first;
        const Due due = nodes_[node].due;
        list.first = nodes_[node].next;
        if (list.first == 0) list.last = 0;
        put_back(node);
        return due;
    }
    void put_back(uint32_t node) {
        nodes_[node].next = free_;
        free_ = node;
        --count_;
    }

    const size_t most_;
    size_t count_ = 0;
    uint32_t free_ = 0;
    std::vector<Node> nodes_;  // number 0 is not used
};

// Messages of a thread in the order in which they were due.
class OutstandingMessages {
  public:
    struct Message {
        Nanos intended_at = 0;
        Nanos began = 0;
        Index client = 0;
        uint32_t life = 0;  // of the client's connections, the one it was sent on
        bool answered = false;
    };

    explicit OutstandingMessages(size_t most) : most_(most) {}

    // Calls drop(message) for the oldest where there are too many.
    template <class Drop>
    void add(const Message& message, Drop&& drop) {
        PULSE_ASSERT(messages_.empty() || messages_.back().intended_at <= message.intended_at);
        if (messages_.size() >= most_) {
            if (!messages_.front().answered) drop(messages_.front());
            messages_.pop_front();
        }
        messages_.push_back(message);
    }
    // The message of that client and that instant, once; null if there is none.
    const Message* answer(Index client, Nanos intended_at) {
        auto at = std::lower_bound(
            messages_.begin(), messages_.end(), intended_at,
            [](const Message& message, Nanos instant) { return message.intended_at < instant; });
        for (; at != messages_.end() && at->intended_at == intended_at; ++at) {
            if (at->answered || at->client != client) continue;
            at->answered = true;
            found_ = *at;
            while (!messages_.empty() && messages_.front().answered) messages_.pop_front();
            return &found_;
        }
        return nullptr;
    }
    // Calls take(message) for each that was not answered, and forgets all.
    template <class Take>
    void clear(Take&& take) {
        for (const Message& message : messages_) {
            if (!message.answered) take(message);
        }
        messages_.clear();
    }
    // The front is never an answered one.
    bool empty() const { return messages_.empty(); }

  private:
    const size_t most_;
    std::deque<Message> messages_;
    Message found_;
};

}  // namespace pulse::load
