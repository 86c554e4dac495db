// What waits to be sent: one queue and one flight a connection, borrowed only while not empty.
//
//     claim ... claim      begin_flight            (the kernel has it)            end_flight
//     [ queue grows ]  ->  [ queue becomes the flight, unchanging ] [ new queue ] -> freed
//
// Behind TLS the queue is plaintext, and what goes out are records: those that TLS has to say by
// itself, and those that the queue becomes when it is to be sent.
//
//     claim ... claim             end_queue, claim_records           begin_flight_of_records
//     [ queue of plaintext ]  ->  [ records, in their order ]  ->  [ the flight ]
//
// The cap counts queue and flight, so that a peer that does not read costs at most the cap;
// records that wait besides have a bound of their own. Its handle is Connection::outbox.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <utility>
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

    // Something is to be sent, and not in flight.
    bool waits(const Connection& connection) const {
        return connection.outbox != 0 &&
               (queued(connection) || boxes_[connection.outbox].records != 0);
    }

    // Queued, as records that wait, and in flight.
    size_t bytes(const Connection& connection) const {
        const Box& box = boxes_[connection.outbox];
        return size_of(box.queue) + size_of(box.records) + size_of(box.flight);
    }
    // The connection is about to be closed without waiting for its flight: see write_off().
    void write_off(const Connection& connection) {
        const Box& box = boxes_[connection.outbox];
        if (connection.outbox != 0 && box.flight != 0) buffers_.write_off(box.flight);
    }

    // ---- behind TLS
    // Room for so many bytes of records, or nullptr where the pool has none (was_short()).
    uint8_t* claim_records(Connection& connection, Index owner, size_t bytes) {
        if (connection.outbox == 0) connection.outbox = take();
        Box& box = boxes_[connection.outbox];
        if (box.records == 0) box.records = buffers_.take(owner, connection.address);
        uint8_t* const place = buffers_.extend(box.records, bytes, SIZE_MAX);
        if (place != nullptr) waiting_bytes_ += bytes;
        return place;
    }
    size_t record_bytes(const Connection& connection) const {
        return connection.outbox == 0 ? 0 : size_of(boxes_[connection.outbox].records);
    }
    // The plaintext that waits. Valid until the next claim.
    std::span<const uint8_t> queue(const Connection& connection) {
        const Box& box = boxes_[connection.outbox];
        if (connection.outbox == 0 || box.queue == 0) return {};
        return buffers_.bytes(box.queue);
    }
    // It has become records, which claim_records() is asked for next. Requires: it is there.
    void end_queue(Connection& connection) {
        Box& box = boxes_[connection.outbox];
        PULSE_ASSERT(box.queue != 0);
        give_back(box.queue);
        box.last_words = 0;
    }
    // Records that wait will not be sent, and none can follow them: each is sealed by its place in
    // the stream. False: there are none.
    bool drop_records(Connection& connection) {
        Box& box = boxes_[connection.outbox];
        if (connection.outbox == 0 || box.records == 0) return false;
        give_back(box.records);
        if (box.flight == 0 && box.queue == 0) free(connection);
        return true;
    }
    // begin_flight() of the records. Requires: record_bytes() > 0, and nothing is in flight.
    std::span<const uint8_t> begin_flight_of_records(Connection& connection) {
        Box& box = boxes_[connection.outbox];
        PULSE_ASSERT(box.flight == 0 && box.records != 0);
        box.flight = std::exchange(box.records, 0);
        return buffers_.bytes(box.flight);
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
    // The flight has landed; with nothing queued the connection owns no outbox any more: false.
    bool end_flight(Connection& connection) {
        Box& box = boxes_[connection.outbox];
        PULSE_ASSERT(box.flight != 0);
        give_back(box.flight);
        if (box.queue != 0 || box.records != 0) return true;
        free(connection);
        return false;
    }
    // What is not in flight will not be sent.
    void drop_queue(Connection& connection) {
        Box& box = boxes_[connection.outbox];
        if (connection.outbox == 0 || box.queue == 0) return;
        give_back(box.queue);
        box.last_words = 0;
        if (box.flight == 0 && box.records == 0) free(connection);
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
        if (box.records != 0) give_back(box.records);
        free(connection);
    }

    uint32_t taken() const { return taken_; }
    // Queued and in flight, of all connections.
    size_t waiting_bytes() const { return waiting_bytes_; }

  private:
    struct Box {
        BufferPool::Handle queue = 0;
        BufferPool::Handle flight = 0;
        uint32_t last_words = 0;  // bytes, at the end of the queue
        // Of a box that is free, the next that is.
        BufferPool::Handle records = 0;
    };

    size_t size_of(BufferPool::Handle buffer) const {
        return buffer == 0 ? 0 : buffers_.size(buffer);
    }
    void give_back(BufferPool::Handle& buffer) {
        waiting_bytes_ -= buffers_.size(buffer);
        buffers_.release(buffer);
        buffer = 0;
    }
    // Requires: its box holds nothing.
    void free(Connection& connection) {
        boxes_[connection.outbox] = Box{.records = free_};
        free_ = connection.outbox;
        connection.outbox = 0;
        --taken_;
    }
    uint32_t take() {
        ++taken_;
        if (free_ == 0) {
            boxes_.emplace_back();
            return static_cast<uint32_t>(boxes_.size() - 1);
        }
        const uint32_t box = free_;
        free_ = std::exchange(boxes_[box].records, 0);
        return box;
    }

    BufferPool& buffers_;
    std::vector<Box> boxes_;
    uint32_t free_ = 0;
    uint32_t taken_ = 0;
    size_t waiting_bytes_ = 0;
};

}  // namespace pulse
