// A chat in a terminal. What is typed while its server is started anew waits, and is sent then.
//     build/pulsewheel --listen ws://127.0.0.1:9000 --on-message echo --resume-hold 30s
//     build/examples/chat ws://127.0.0.1:9000 ann
#include <poll.h>
#include <unistd.h>

#include <cstdio>

#include "net/client/client.h"

using namespace pulse::client;
static size_t unanswered = 0;
static void note(const std::string& text) { fprintf(stderr, "* %s\n", text.c_str()); }

static void show(const Event& event) {
    if (const auto* message = std::get_if<Message>(&event)) printf("%s\n", message->bytes.c_str());
    if (const auto* at = std::get_if<Welcomed>(&event)) note("at " + at->url + ' ' + at->session);
    if (const auto* lost = std::get_if<Lost>(&event)) note("lost: " + lost->cause.name);
    if (const auto* ended = std::get_if<Ended>(&event)) note("ended: " + ended->cause.name);
    if (const auto* answer = std::get_if<Answered>(&event)) {
        --unanswered;
        if (answer->outcome == Outcome::unconfirmed) note("may be lost: " + answer->reason);
        if (answer->outcome == Outcome::dropped) note("not sent: " + answer->reason);
    }
    fflush(stdout);
}

int main(int argc, char** argv) {
    Options options{.urls = {argc > 1 ? argv[1] : "ws://127.0.0.1:9000"}};
    options.identity.user = argc > 2 ? argv[2] : "ann";
    auto client = Client::make(options);
    if (!client) return note("not begun: " + client.error()), 2;
    client->connect();
    std::string typed;
    for (bool reads = true; (reads || unanswered > 0) && client->state() != State::closed;) {
        pollfd ready[] = {{client->descriptor(), POLLIN, 0}, {reads ? 0 : -1, POLLIN, 0}};
        poll(ready, 2, client->wait_ms());
        char bytes[4096];
        const ssize_t count = ready[1].revents != 0 ? read(0, bytes, sizeof bytes) : -1;
        if (count == 0) reads = false;
        if (count > 0) typed.append(bytes, static_cast<size_t>(count));
        for (size_t end; (end = typed.find('\n')) != typed.npos; typed.erase(0, end + 1))
            if (auto sent = client->send(typed.substr(0, end), true))
                ++unanswered;
            else
                note("not sent: " + sent.error());
        for (client->step(); auto event = client->next();) show(*event);
    }
    return client->state() == State::closed;
}
