// The floor that servers over io_uring stand on; the one over epoll, floor_epoll.h, says what an
// `Answer` is. What that returns must stay as it is until its submission is taken, which is no
// later than kFloorSubmissions answers afterwards.
#pragma once

#include <liburing.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace pulse::bench {

constexpr unsigned kFloorSubmissions = 1'024;

// io_uring without epoll: a multishot accept, for each peer a multishot receive into buffers that
// all share, a submission a send, of which only a failure is reported. Aborts where the kernel has
// no DEFER_TASKRUN (6.1).
template <class Answer>
class RingFloor {
  public:
    // Takes `listener`. On the thread that will call turn().
    RingFloor(int listener, Answer answer) : listener_(listener), answer_(answer) {
        io_uring_params parameters{};
        parameters.flags =
            IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_CQSIZE;
        parameters.cq_entries = 16'384;
        io_uring_buf_reg registration{};
        const size_t ring_bytes = kBuffers * sizeof(io_uring_buf);
        if (posix_memalign(reinterpret_cast<void**>(&buffer_ring_), 4'096, ring_bytes) != 0)
            std::abort();
        registration.ring_addr = reinterpret_cast<uint64_t>(buffer_ring_);
        registration.ring_entries = kBuffers;
        if (io_uring_queue_init_params(kFloorSubmissions, &ring_, &parameters) < 0) std::abort();
        if (io_uring_register_buf_ring(&ring_, &registration, 0) < 0) std::abort();
        io_uring_buf_ring_init(buffer_ring_);
        for (uint16_t id = 0; id < kBuffers; ++id) add_buffer(id, id);
        io_uring_buf_ring_advance(buffer_ring_, kBuffers);
        accept_on();
    }
    ~RingFloor() {
        shutdown(listener_, SHUT_RDWR);  // or what is armed keeps it listening for a while
        io_uring_queue_exit(&ring_);
        std::free(buffer_ring_);
        close(listener_);
    }
    RingFloor(const RingFloor&) = delete;
    RingFloor& operator=(const RingFloor&) = delete;

    uint64_t system_calls() const { return system_calls_; }

    void turn(int timeout_ms) {
        __kernel_timespec timeout{timeout_ms / 1'000, timeout_ms % 1'000 * 1'000'000LL};
        io_uring_cqe* first = nullptr;
        ++system_calls_;
        io_uring_submit_and_wait_timeout(&ring_, &first, 1, timeout_ms < 0 ? nullptr : &timeout,
                                         nullptr);
        unsigned head = 0, taken = 0, returned = 0;
        io_uring_cqe* completion = nullptr;
        io_uring_for_each_cqe(&ring_, head, completion) {
            ++taken;
            const auto peer = static_cast<int>(io_uring_cqe_get_data64(completion) >> 2);
            switch (io_uring_cqe_get_data64(completion) & 3) {
                case kAccept:
                    if (completion->res >= 0) receive_on(completion->res);
                    if ((completion->flags & IORING_CQE_F_MORE) == 0) accept_on();
                    break;
                case kReceive:
                    received(peer, *completion, returned);
                    break;
                default:
                    break;
            }
        }
        io_uring_buf_ring_advance(buffer_ring_, static_cast<int>(returned));
        io_uring_cq_advance(&ring_, taken);
    }

  private:
    enum Kind : uint64_t { kAccept, kReceive, kSend };
    static constexpr uint16_t kBuffers = 1'024;
    static constexpr size_t kBufferBytes = 1'024;

    io_uring_sqe* submission() {
        io_uring_sqe* entry = io_uring_get_sqe(&ring_);
        if (entry != nullptr) return entry;
        ++system_calls_;
        io_uring_submit(&ring_);
        return io_uring_get_sqe(&ring_);
    }
    static void name(io_uring_sqe* entry, Kind kind, int peer) {
        io_uring_sqe_set_data64(entry, static_cast<uint64_t>(peer) << 2 | kind);
    }
    void accept_on() {
        io_uring_sqe* entry = submission();
        io_uring_prep_multishot_accept(entry, listener_, nullptr, nullptr, 0);
        name(entry, kAccept, listener_);
    }
    void receive_on(int peer) {
        io_uring_sqe* entry = submission();
        io_uring_prep_recv_multishot(entry, peer, nullptr, 0, 0);
        name(entry, kReceive, peer);
        entry->flags |= IOSQE_BUFFER_SELECT;
    }
    void received(int peer, const io_uring_cqe& completion, unsigned& returned) {
        if (completion.res > 0) {
            const auto id = static_cast<uint16_t>(completion.flags >> IORING_CQE_BUFFER_SHIFT);
            const std::string_view out = answer_(buffer(id), static_cast<size_t>(completion.res));
            if (!out.empty()) {
                io_uring_sqe* entry = submission();
                io_uring_prep_send(entry, peer, out.data(), out.size(), MSG_NOSIGNAL);
                name(entry, kSend, peer);
                entry->flags |= IOSQE_CQE_SKIP_SUCCESS;
            }
            add_buffer(id, returned++);
            if (out.data() == nullptr) shutdown(peer, SHUT_RDWR);
        }
        if ((completion.flags & IORING_CQE_F_MORE) != 0) return;
        if (completion.res > 0 || completion.res == -ENOBUFS) return receive_on(peer);
        close(peer);
    }
    uint8_t* buffer(uint16_t id) { return buffers_.data() + id * kBufferBytes; }
    void add_buffer(uint16_t id, unsigned offset) {
        io_uring_buf_ring_add(buffer_ring_, buffer(id), kBufferBytes, id,
                              io_uring_buf_ring_mask(kBuffers), static_cast<int>(offset));
    }

    const int listener_;
    Answer answer_;
    io_uring ring_{};
    io_uring_buf_ring* buffer_ring_ = nullptr;
    std::vector<uint8_t> buffers_ = std::vector<uint8_t>(kBuffers * kBufferBytes);
    uint64_t system_calls_ = 0;
};

}  // namespace pulse::bench
