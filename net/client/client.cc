// The engine over sockets and the kernel's clock.
#include "net/client/client.h"

#include <poll.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "net/client/deadline.h"
#include "net/client/engine.h"
#include "net/client/sockets.h"
#include "net/io/clocks.h"

namespace pulse::client {
namespace {

uint64_t seed_from_system() {
    uint64_t seed = 0;
    while (getrandom(&seed, sizeof seed, 0) < 0 && errno == EINTR) continue;
    return seed;
}

}  // namespace

struct Client::Parts {
    explicit Parts(Options options)
        : sockets(look_up, {.verify = options.tls_verify,
                            .authorities = options.tls_authorities,
                            .verify_name = "tls_verify",
                            .authorities_name = "tls_authorities"}),
          engine(std::move(options), sockets) {}
    Sockets sockets;
    Engine engine;
};

Client::Client(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

Result<Client> Client::make(Options options) {
    if (Result<void> check = check_options(options); !check) return Error{check.error()};
    if (options.seed == 0) options.seed = seed_from_system();
    const bool tls = std::ranges::any_of(
        options.urls, [](const std::string& url) { return parse_endpoint(url)->tls; });
    auto parts = std::make_unique<Parts>(std::move(options));
    if (Result<void> opened = parts->sockets.open(); !opened) return Error{opened.error()};
    if (Result<void> files = tls ? parts->sockets.read_tls_files() : Result<void>{}; !files)
        return Error{files.error()};
    return Client(std::move(parts));
}

void Client::connect() { parts_->engine.connect(monotonic_clock()); }
void Client::wake() { parts_->engine.wake(monotonic_clock()); }
void Client::close() { parts_->engine.close(monotonic_clock()); }

Result<uint64_t> Client::send(std::string_view text, bool confirm) {
    return parts_->engine.send(monotonic_clock(), MessageKind::text, text, confirm);
}

Result<uint64_t> Client::send_bytes(std::string_view bytes, bool confirm) {
    return parts_->engine.send(monotonic_clock(), MessageKind::binary, bytes, confirm);
}

Result<void> Client::login(Identity identity, std::string token) {
    return parts_->engine.login(monotonic_clock(), std::move(identity), std::move(token));
}

std::optional<Event> Client::next() { return parts_->engine.next(); }
State Client::state() const { return parts_->engine.state(); }
Client::Queued Client::queued() const {
    return {parts_->engine.outbox().count(), parts_->engine.outbox().bytes()};
}
std::optional<Nanos> Client::round_trip() const { return parts_->engine.round_trip(); }
bool Client::busy() const { return parts_->sockets.busy(); }

int Client::descriptor() const { return parts_->sockets.descriptor(); }

Nanos Client::deadline() const {
    return std::min(parts_->engine.due_at(), parts_->sockets.due_at());
}

int Client::wait_ms() const {
    const Nanos due = deadline();
    if (due == kNever) return -1;
    const Nanos left = std::clamp<Nanos>(due - monotonic_clock(), 0, kWaitMax);
    return static_cast<int>((left + kMillisecond - 1) / kMillisecond);
}

// The clock is read before the sockets are: what is judged by it had its bytes read, however long
// this process was stopped in between.
void Client::step() {
    const Nanos now = monotonic_clock();
    parts_->sockets.step(parts_->engine, now);
    parts_->engine.poll(now);
}

void Client::wait(Nanos at_most) {
    const Nanos now = monotonic_clock();
    const Nanos left =
        std::clamp<Nanos>(std::min(deadline(), after(now, at_most)) - now, 0, kWaitMax);
    const timespec timeout{.tv_sec = left / kSecond, .tv_nsec = left % kSecond};
    pollfd ready{descriptor(), POLLIN, 0};
    ppoll(&ready, 1, &timeout, nullptr);
    step();
}

}  // namespace pulse::client
