// What waits to be sent: one queue and one flight a connection, borrowed only while not empty.
//
//     claim ... claim      begin_flight            (the kernel has it)            end_flight
//     [ queue grows ]  ->  [ queue becomes the flight, unchanging ] [ new queue ] -> freed
//
// The cap counts both, so that a peer that does not read costs at most the cap. Its
// handle is Connection::outbox.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/buffer_pool.h"
#include "core/connection.h"
#include "net/loop/limits.h"

namespace pulse {

class Outboxes {
  public:
    explicit Outboxes(BufferPool& buffers) : buffers_(buffers) { boxes_.emplace_back(); }

    // Room for `bytes` more, contiguous, or nullptr when they would be over `cap` or over what the
    // pool has (BufferPool::was_short). `owner` is whose connection it is.
    uint8_t* claim(Connection& connection, Index owner, size_t bytes, size_t cap) {
        if (connection.outbox == 0) connection.outbox = take();
        Box& box = boxes_[connection.outbox];
        const size_t in_flight = box.flight == 0 ? 0 : buffers_.size(box.flight);
        if (box.queue == 0) box.queue = buffers_.take(owner, connection.address);
        if (in_flight > cap) cap = in_flight;  // nothing more
        uint8_t* const place = buffers_.extend(box.queue, bytes, cap - in_flight);
        if (place != nullptr) waiting_bytes_ += bytes;
        return place;
    }

    bool in_flight(const Connection& connection) const {
        return connection.outbox != 0 && boxes_[connection.outbox].flight != 0;
    }
    bool queued(const Connection& connection) const {
        const Box& box = boxes_[connection.outbox];
        return connection.outbox != 0 && box.queue != 0 && buffers_.size(box.queue) > 0;
    }

    // Queued and in flight.
    size_t bytes(const Connection& connection) const {
        const Box& box = boxes_[connection.outbox];
        return (box.queue == 0 ? 0 : buffers_.size(box.queue)) +
               (box.flight == 0 ? 0 : buffers_.size(box.flight));
    }
    // The connection is about to be closed without waiting for its flight: see write_off().
    void write_off(const Connection& connection) {
        const Box& box = boxes_[connection.outbox];
        if (connection.outbox != 0 && box.flight != 0) buffers_.write_off(box.flight);
    }

    // The queue becomes the flight. Nothing may be in flight. The bytes stay put until end_flight.
    std::span<const uint8_t> begin_flight(Connection& connection) {
        Box& box = boxes_[connection.outbox];
        PULSE_ASSERT(box.flight == 0 && box.queue != 0);
        box.flight = box.queue;
        box.queue = 0;
        box.last_words = 0;
        return buffers_.bytes(box.flight);
    }
    size_t flight_bytes(const Connection& connection) const {
        return buffers_.size(boxes_[connection.outbox].flight);
    }
    // The flight has landed; with nothing queued the connection owns no outbox any more.
    void end_flight(Connection& connection) {
        Box& box = boxes_[connection.outbox];
        PULSE_ASSERT(box.flight != 0);
        give_back(box.flight);
        if (box.queue == 0) release(connection);
    }
    // What is not in flight will not be sent.
    void drop_queue(Connection& connection) {
        Box& box = boxes_[connection.outbox];
        if (connection.outbox == 0 || box.queue == 0) return;
        give_back(box.queue);
        box.last_words = 0;
        if (box.flight == 0) release(connection);
    }
    // So many bytes more of the end of the queue are the goodbye, for drop_all_but_last_words().
    // Requires: they were claimed.
    void add_last_words(const Connection& connection, size_t bytes) {
        boxes_[connection.outbox].last_words += static_cast<uint32_t>(bytes);
    }
    size_t last_words(const Connection& connection) const {
        return connection.outbox == 0 ? 0 : boxes_[connection.outbox].last_words;
    }
    // As drop_queue(), but the goodbye is left, in a buffer that is no larger than it needs.
    void drop_all_but_last_words(Connection& connection, Index owner) {
        const size_t bytes = last_words(connection);
        std::array<uint8_t, kLastWordsBytesMax> kept;
        if (bytes == 0) return drop_queue(connection);
        PULSE_ASSERT(bytes <= kept.size());
        const Box& box = boxes_[connection.outbox];
        const std::span<const uint8_t> all = buffers_.bytes(box.queue);
        std::ranges::copy(all.last(bytes), kept.begin());
        drop_queue(connection);
        const size_t in_flight = connection.outbox == 0 ? 0 : this->bytes(connection);
        uint8_t* const place = claim(connection, owner, bytes, in_flight + bytes);
        if (place == nullptr) return;
        std::copy_n(kept.begin(), bytes, place);
        add_last_words(connection, bytes);
    }
    // Everything. Only when the kernel has nothing of it any more.
    void release(Connection& connection) {
        if (connection.outbox == 0) return;
        Box& box = boxes_[connection.outbox];
        if (box.queue != 0) give_back(box.queue);
        if (box.flight != 0) give_back(box.flight);
        box = Box{.next_free = free_};
        free_ = connection.outbox;
        connection.outbox = 0;
        --taken_;
    }

    uint32_t taken() const { return taken_; }
    // Queued and in flight, of all connections.
    size_t waiting_bytes() const { return waiting_bytes_; }

  private:
    struct Box {
        BufferPool::Handle queue = 0;
        BufferPool::Handle flight = 0;
        uint32_t last_words = 0;  // bytes, at the end of the queue
        uint32_t next_free = 0;
    };

    void give_back(BufferPool::Handle& buffer) {
        waiting_bytes_ -= buffers_.size(buffer);
        buffers_.release(buffer);
        buffer = 0;
    }
    uint32_t take() {
        ++taken_;
        if (free_ == 0) {
            boxes_.emplace_back();
            return static_cast<uint32_t>(boxes_.size() - 1);
        }
        const uint32_t box = free_;
        free_ = boxes_[box].next_free;
        boxes_[box].next_free = 0;
        return box;
    }

    BufferPool& buffers_;
    std::vector<Box> boxes_;
    uint32_t free_ = 0;
    uint32_t taken_ = 0;
    size_t waiting_bytes_ = 0;
};

}  // namespace pulse
