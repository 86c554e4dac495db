// The connections of one reactor by address, each address's from the oldest to the newest: which of
// them gives way when there are too many. Off, it has no memory; on, 16 bytes for each place that
// is used. Every operation is O(1), whatever an address has.
//
// Addresses are numbers as number_of() of net/io/address.h makes them, and their own hashes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/check.h"
#include "core/page_source.h"
#include "core/sessions/hash_index.h"
#include "core/types.h"

namespace pulse {

class AddressLists {
  public:
    // For indexes below `places`. `pages` outlives it.
    AddressLists(PageSource& pages, uint32_t places) : pages_(pages), places_(places) {}
    ~AddressLists() {
        if (on()) pages_.release(reinterpret_cast<std::byte*>(nodes_), bytes_max());
    }
    AddressLists(const AddressLists&) = delete;
    AddressLists& operator=(const AddressLists&) = delete;

    // From now on it may hold some, for ever. False: there is no address space.
    bool turn_on() {
        if (on()) return true;
        nodes_ = reinterpret_cast<Node*>(pages_.reserve_small(bytes_max()));
        return on();
    }
    bool on() const { return nodes_ != nullptr; }

    // As the newest of its address. Requires: it is on, and the index in no list.
    void add(Index index, uint32_t address) {
        PULSE_ASSERT(on() && index < places_ && node(index + 1).newer == 0);
        used_ = index >= used_ ? index + 1 : used_;
        const Handle added = index + 1;
        const Handle oldest = find(address);
        if (oldest == 0) {
            node(added).newer = node(added).older = added;
            heads_.insert(added, address, nodes());
            return;
        }
        const Handle newest = node(oldest).older;
        node(added).hash.hash = address;
        node(added).older = newest;
        node(added).newer = oldest;
        node(newest).newer = node(oldest).older = added;
    }
    // Requires: it is in a list.
    void remove(Index index) {
        const Handle removed = index + 1;
        const Node was = node(removed);
        PULSE_ASSERT(was.newer != 0);
        const bool is_oldest = find(was.hash.hash) == removed;
        if (is_oldest) heads_.erase(removed, nodes());
        node(was.older).newer = was.newer;
        node(was.newer).older = was.older;
        if (is_oldest && was.newer != removed) heads_.insert(was.newer, was.hash.hash, nodes());
        node(removed) = Node{};
    }
    // kNoIndex: the address has none.
    Index oldest(uint32_t address) const {
        const Handle handle = on() ? find(address) : 0;
        return handle == 0 ? kNoIndex : handle - 1;
    }

    size_t memory_bytes() const { return on() ? used_ * sizeof(Node) + heads_.bytes() : 0; }
    static constexpr size_t kBytesEach = 16;

  private:
    using Handle = uint32_t;  // index + 1; 0 is none
    struct Node {
        HashNode hash;
        Handle older = 0;  // of the oldest, the newest
        Handle newer = 0;  // of the newest, the oldest; 0: in no list
    };
    static_assert(sizeof(Node) == kBytesEach);
    struct Nodes {
        Node* first;
        HashNode& operator()(Handle handle) const { return first[handle - 1].hash; }
    };

    size_t bytes_max() const { return places_ * sizeof(Node); }
    Node& node(Handle handle) const { return nodes_[handle - 1]; }
    Nodes nodes() const { return {nodes_}; }
    Handle find(uint32_t address) const {
        return heads_.find(address, nodes(), [](Handle) { return true; });
    }

    PageSource& pages_;
    const size_t places_;
    Node* nodes_ = nullptr;
    size_t used_ = 0;  // places below this were used
    HashIndex heads_;  // the oldest of each address
};

}  // namespace pulse
