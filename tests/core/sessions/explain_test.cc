// Sentences from facts: each reason has its own, and a silence names what the kernel saw of it.
#include "core/sessions/explain.h"

#include <gtest/gtest.h>

#include <string>

#include "core/sessions/timeline.h"

namespace pulse {
namespace {

constexpr ConnectionNames kNames{.name = "r3-000123-9",
                                 .peer = "192.0.2.7:40001",
                                 .protocol = "JSON lines",
                                 .listener = "jsonl://*:9000"};
constexpr Nanos kNow = 1'000 * kSecond;

// Of one that was open for 120 s, and silent for 90 of them.
Evidence open_facts() {
    Evidence facts{.id = {123, 9}, .reactor = 3, .at = kNow};
    facts.accepted_at = kNow - 120 * kSecond;
    facts.stage = Stage::open;
    facts.probes_on = true;
    facts.heard_at = kNow - 90 * kSecond;
    facts.interval = 30 * kSecond;
    facts.timeout = 90 * kSecond;
    facts.deadline = kNow;
    facts.transport.known = true;
    facts.transport.received_bytes = 345;
    facts.transport.acked_bytes = 1'020;
    facts.transport.since_received = 90 * kSecond;
    facts.transport.since_sent = 90 * kSecond;
    facts.transport.since_acked = 90 * kSecond;
    facts.transport.round_trip = 230'000;
    return facts;
}

Evidence ended(CloseReason reason) {
    Evidence facts = open_facts();
    facts.reason = reason;
    facts.end = SocketEnd::orderly;
    facts.ended_at = kNow + kSecond;
    return facts;
}

Evidence evicted(uint8_t probes) {
    Evidence facts = ended(CloseReason::idle_timeout);
    facts.probes_sent = probes;
    facts.probed_at = kNow - 28 * kSecond;
    facts.said_goodbye = true;
    return facts;
}

void expect_in(const std::string& text, std::string_view part) {
    EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in: " << text;
}

// ----------------------------------------------------------------------------------- a silence
TEST(Silence, OfAPeerThatIsGoneShowsWhatWasNotAcknowledged) {
    Evidence facts = evicted(2);
    facts.transport.unacked_bytes = 16;
    facts.transport.timeouts = 7;
    facts.transport.retransmitted_segments = 9;
    facts.transport.since_sent = 3 * kSecond;
    EXPECT_EQ(peer_state(facts), PeerState::gone);
    EXPECT_EQ(explain(facts, kNames),
              "r3-000123-9 (JSON lines from 192.0.2.7:40001 on jsonl://*:9000) was closed as "
              "idle_timeout after 121.0 s: nothing that proves life came for 90.0 s, and its "
              "timeout is 90.0 s; 2 probes were sent since, the last one 28.0 s before. The kernel "
              "shows that 16 bytes were not acknowledged and were sent again 7 times in vain, the "
              "last acknowledgement 90.0 s before: the peer or its network is gone. Its host had "
              "sent 345 bytes (the last 90.0 s before) and acknowledged 1020, round trip 0.23 ms, "
              "9 segments sent again. The goodbye was queued and could not be sent, and the socket "
              "was closed in order. Ended by: server. What to do: the peer or its network is gone, "
              "or its program hangs; the evidence says which.");
}

TEST(Silence, OfAPeerWhoseHostAnswersIsOfItsProgram) {
    Evidence facts = evicted(2);
    facts.transport.since_acked = facts.transport.since_sent = 28 * kSecond;
    EXPECT_EQ(peer_state(facts), PeerState::silent);
    expect_in(explain(facts, kNames),
              "the peer's host acknowledged all that was sent, the last of it 28.0 s before: the "
              "host is there, and its program says nothing.");
}

TEST(Silence, OfAPeerThatTakesNothingMoreIsOfOneThatDoesNotRead) {
    Evidence facts = evicted(1);
    facts.transport.unsent_bytes = 5'000;
    EXPECT_EQ(peer_state(facts), PeerState::stuck);
    expect_in(explain(facts, kNames), "5000 bytes wait for room at the peer");
}

TEST(Silence, WithoutAnythingSentLeavesItOpen) {
    Evidence facts = evicted(0);
    facts.probes_on = false;
    EXPECT_EQ(peer_state(facts), PeerState::unknown);
    const std::string text = explain(facts, kNames);
    expect_in(text, "probes are off.");
    expect_in(text, "whether the peer is gone is not known");
    facts.transport = {};
    expect_in(explain(facts, kNames), "The kernel could not be asked about it.");
}

TEST(Silence, ThatEndedByMissesNamesThem) {
    Evidence facts = evicted(3);
    facts.heard_at = kNow - 36 * kSecond;
    facts.probed_at = kNow - kSecond;
    facts.misses = 3;
    facts.deadline = kNow;
    expect_in(explain(facts, kNames),
              "nothing that proves life came for 36.0 s, and 3 probes had no answer in time "
              "(--suspect-misses), the last one 1.000 s before; its timeout is 90.0 s. ");
    facts.reason = CloseReason::kicked;
    EXPECT_EQ(explain(facts, kNames).find("misses"), std::string::npos);
}

// What was sent a moment ago is not acknowledged yet, and says nothing.
TEST(Silence, AProbeThatJustLeftIsNoEvidence) {
    Evidence facts = evicted(1);
    facts.transport.unacked_bytes = 8;
    facts.transport.since_sent = 4 * kMillisecond;
    EXPECT_NE(peer_state(facts), PeerState::gone);
}

TEST(Silence, NamesBytesThatProvedNothing) {
    Evidence facts = evicted(2);
    facts.transport.since_received = 5 * kSecond;
    expect_in(explain(facts, kNames), "Bytes came 5.000 s before, and made no complete message.");
    facts.liveness = Liveness::roundtrip;
    expect_in(explain(facts, kNames), "Bytes came 5.000 s before, and none of them answered");
}

// ------------------------------------------------------------------------------------- reasons
TEST(Reasons, EachHasItsWordsItsPartyAndItsAdvice) {
    for (size_t at = 1; at < kCloseReasons; ++at) {
        const CloseReasonInfo& info = kCloseReasonInfos[at];
        const std::string text = explain(ended(static_cast<CloseReason>(at)), kNames);
        expect_in(text, "was closed as " + std::string(info.name) + " after 121.0 s: ");
        expect_in(text, "Ended by: " + std::string(name_of(info.party)) + ".");
        expect_in(text, "What to do: " + std::string(info.advice) + ".");
        EXPECT_FALSE(info.advice.empty()) << info.name;
        EXPECT_FALSE(info.advice.ends_with('.')) << info.name;
        EXPECT_LE(info.text.size(), 123u) << info.name;
        EXPECT_EQ(text.find(": ."), std::string::npos) << "no cause: " << text;
        EXPECT_EQ(text.find("  "), std::string::npos) << text;
    }
}

TEST(Reasons, NameTheirEvidence) {
    const struct {
        CloseReason reason;
        void (*change)(Evidence&);
        std::string_view says;
    } rows[] = {
        {CloseReason::peer_goodbye, [](Evidence& f) { f.peer_code = 1001; },
         "the peer said goodbye with code 1001."},
        {CloseReason::peer_goodbye, [](Evidence&) {}, "the peer said goodbye."},
        {CloseReason::peer_reset, [](Evidence& f) { f.error = 104; },
         "the peer reset the connection (error, errno 104)."},
        {CloseReason::network_timeout,
         [](Evidence& f) {
             f.transport.unacked_bytes = 12;
             f.transport.retransmitted_segments = 4;
         },
         "12 bytes waited, 4 segments were sent again, and the last acknowledgement had come"},
        {CloseReason::slow_upload, [](Evidence& f) { f.unfinished_bytes = 700; },
         "a message of which 700 bytes had come stopped or came too slowly: nothing that proves"},
        {CloseReason::handshake_timeout, [](Evidence& f) { f.transport.received_bytes = 0; },
         "it sent nothing within 90.0 s."},
        {CloseReason::handshake_timeout, [](Evidence& f) { f.stage = Stage::proxy; },
         "its PROXY header was not whole within"},
        {CloseReason::handshake_timeout, [](Evidence& f) { f.stage = Stage::http; },
         "its HTTP request was not whole within"},
        {CloseReason::handshake_timeout, [](Evidence&) {},
         "its first message was not whole within"},
        {CloseReason::protocol_error,
         [](Evidence& f) { f.detail = CutText<88>("unknown frame type"); },
         "protocol_error after 121.0 s: unknown frame type."},
        {CloseReason::bad_proxy_header, [](Evidence& f) { f.detail = CutText<88>("a cut TLV"); },
         "the PROXY header is missing or malformed: a cut TLV."},
        {CloseReason::slow_reader,
         [](Evidence& f) {
             f.queued_bytes = 9'000;
             f.transport.unacked_bytes = 500;
         },
         "it reads too slowly: 9000 bytes waited for it here, and 500 bytes in the kernel."},
        {CloseReason::out_of_memory,
         [](Evidence& f) { f.detail = CutText<88>("it was the largest holder"); },
         "the buffers of its reactor were short: it was the largest holder."},
        {CloseReason::kicked, [](Evidence&) {}, "an operator closed it."},
        {CloseReason::kicked, [](Evidence& f) { f.detail = CutText<88>("abuse"); },
         "an operator closed it: abuse."},
    };
    for (const auto& row : rows) {
        Evidence facts = ended(row.reason);
        row.change(facts);
        expect_in(explain(facts, kNames), row.says);
    }
}

TEST(Reasons, SayHowTheSocketEnded) {
    Evidence facts = evicted(0);
    facts.goodbye_taken = true;
    facts.end = SocketEnd::reset;
    expect_in(explain(facts, kNames),
              "The kernel took the goodbye, the peer did not answer it in time, "
              "and the socket was reset.");
    facts.end = SocketEnd::orderly;
    facts.peer_ended = true;
    expect_in(explain(facts, kNames),
              "The kernel took the goodbye, and both ends closed in order.");
    facts.end = SocketEnd::none;
    facts.ended_at = 0;
    facts.goodbye_taken = facts.peer_ended = false;
    const std::string closing = explain(facts, kNames);
    expect_in(closing, "is closing as idle_timeout after 120.0 s: ");
    expect_in(closing, "The goodbye waits to be sent, and the peer has not ended the stream yet.");
}

TEST(Reasons, WithoutALedgerAreAllThatIsKnown) {
    Evidence facts{.id = {1, 1}, .stage = Stage::closing};
    facts.reason = CloseReason::idle_timeout;
    EXPECT_EQ(explain_end(facts, kNames),
              "idle_timeout: idle_timeout, and nothing more is remembered of it.");
}

TEST(CutText, KeepsWholeCharacters) {
    EXPECT_EQ(CutText<4>("abc").view(), "abc");
    EXPECT_EQ(CutText<4>("abcd").view(), "abcd");
    EXPECT_EQ(CutText<4>("abcde").view(), "abcd");
    EXPECT_EQ(CutText<4>("abc\u00e9").view(), "abc");
    EXPECT_EQ(CutText<4>("ab\u00e9").view(), "ab\u00e9");
    EXPECT_EQ(CutText<2>("\U0001F600").view(), "");
    EXPECT_TRUE(CutText<4>("").empty());
}

// ------------------------------------------------------------------------------------ open ones
TEST(Open, TellsItsStateItsDeadlineAndWhatWouldCloseIt) {
    Evidence facts = open_facts();
    facts.heard_at = kNow - 12 * kSecond;
    facts.next_probe_at = kNow + 20 * kSecond;
    facts.deadline = kNow + 78 * kSecond;
    facts.queued_bytes = 1;
    EXPECT_EQ(
        explain(facts, kNames),
        "r3-000123-9 (JSON lines from 192.0.2.7:40001 on jsonl://*:9000) is open for 120.0 s. "
        "It last proved that it lives 12.0 s ago. If it stays silent it is probed in 20.0 s "
        "and evicted as idle_timeout in 78.0 s. 1 byte waits to be sent: a peer that does not "
        "read is closed as slow_reader. Its host had sent 345 bytes (the last 90.0 s before) "
        "and acknowledged 1020, round trip 0.23 ms.");
    facts.unfinished_bytes = 100;
    expect_in(explain(facts, kNames), "evicted as slow_upload in 78.0 s");
    facts.held_off = true;
    expect_in(explain(facts, kNames), "it is not judged meanwhile");
    facts.greeting = true;
    facts.stage = Stage::http;
    expect_in(
        explain(facts, kNames),
        "Its HTTP request is awaited: it is closed as handshake_timeout in 78.0 s otherwise.");
}

// --------------------------------------------------------------------------------- its instants
std::string instants(const Evidence& facts) {
    std::string text;
    Nanos before = 0;
    for (const Moment& moment : timeline(facts)) {
        EXPECT_GE(moment.at, before);
        before = moment.at;
        text +=
            std::to_string((moment.at - kNow) / kSecond) + " " + std::string(moment.what) + "\n";
    }
    return text;
}

TEST(Timeline, OfAnEvictionEndsWithItsSocket) {
    Evidence facts = evicted(2);
    facts.transport.since_sent = 28 * kSecond;
    facts.transport.since_acked = 89 * kSecond;
    EXPECT_EQ(instants(facts),
              "-120 accepted\n"
              "-90 last byte in\n"
              "-90 last proof of life\n"
              "-89 last acknowledged\n"
              "-28 last byte out\n"
              "-28 last probe\n"
              "0 its end was decided\n"
              "1 the socket was closed\n");
}

TEST(Timeline, OfOneThatIsOpenHasWhatIsToCome) {
    Evidence facts = open_facts();
    facts.heard_at = kNow - 12 * kSecond;
    facts.next_probe_at = kNow + 20 * kSecond;
    facts.deadline = kNow + 78 * kSecond;
    facts.transport = {};
    EXPECT_EQ(instants(facts),
              "-120 accepted\n"
              "-12 last proof of life\n"
              "20 next probe, if it stays silent\n"
              "78 closed, if it stays silent\n");
    facts.held_off = true;
    facts.accepted_at = 0;
    EXPECT_EQ(instants(facts), "-12 last proof of life\n") << "it is not judged meanwhile";
    facts.greeting = facts.heard_nothing = true;
    facts.held_off = false;
    EXPECT_EQ(instants(facts), "78 closed, if it stays silent\n");
}

TEST(Timeline, OfWhatWasNotSeenIsItsEnd) {
    Evidence facts{.id = {123, 9}, .reactor = 3, .at = kNow};
    facts.stage = Stage::closing;
    facts.reason = CloseReason::kicked;
    EXPECT_EQ(instants(facts), "0 its end was decided\n");
}

}  // namespace
}  // namespace pulse
