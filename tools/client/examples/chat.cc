// A chat in a terminal: what is typed is sent, what comes is printed, also across a restart of its
// server: what is typed meanwhile waits.
//     build/pulsewheel --listen ws://127.0.0.1:9000 --on-message echo --resume-hold 30s
//     build/examples/chat ws://127.0.0.1:9000 ann
#include <poll.h>
#include <unistd.h>

#include <cstdio>

#include "net/client/client.h"

using namespace pulse::client;

static size_t unanswered = 0;

static void show(const Event& event) {
    if (const auto* message = std::get_if<Message>(&event)) printf("%s\n", message->bytes.c_str());
    if (const auto* welcome = std::get_if<Welcomed>(&event))
        fprintf(stderr, "* at %s (%s)\n", welcome->url.c_str(), welcome->session.c_str());
    if (const auto* lost = std::get_if<Lost>(&event))
        fprintf(stderr, "* lost: %s\n", lost->cause.name.c_str());
    if (const auto* answer = std::get_if<Answered>(&event)) {
        --unanswered;
        if (answer->outcome == Outcome::unconfirmed) fprintf(stderr, "* may be lost\n");
        if (answer->outcome == Outcome::dropped)
            fprintf(stderr, "* not sent: %s\n", answer->reason.c_str());
    }
    fflush(stdout);
}

int main(int argc, char** argv) {
    Options options{.urls = {argc > 1 ? argv[1] : "ws://127.0.0.1:9000"}};
    options.identity.user = argc > 2 ? argv[2] : "ann";
    auto client = Client::make(options);
    if (!client) return fprintf(stderr, "%s\n", client.error().c_str()), 2;
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
            if (client->send(typed.substr(0, end), true)) ++unanswered;
        client->step();
        while (auto event = client->next()) show(*event);
    }
}
