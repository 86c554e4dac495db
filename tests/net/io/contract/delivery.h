// The backend contract: events come inside poll() only (C1), bytes writable, whole and
// in order (C2).
#pragma once

#include <algorithm>
#include <string>

#include "tests/net/io/contract/suite.h"

namespace pulse::test {

// ------------------------------------------------------------------------------------------- C1
TYPED_TEST_P(IoContract, C1_NoOperationCallsTheHandlerBack) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    auto two = stage.join();
    // From outside: everything that could call back has its chance, with input waiting.
    ASSERT_EQ(one.peer.write(as_bytes("hello")), 5u);
    stage.world.stall(5 * kMillisecond);
    stage.seen.send(*one.seen, "answer");
    stage.seen.close(*two.seen, CloseMode::orderly);
    stage.seen.connect(stage.world.dead_address(), {});
    EXPECT_TRUE(one.seen->bytes.empty());
    EXPECT_EQ(one.seen->sents, one.seen->sents_at_once);
    EXPECT_EQ(two.seen->closes, 0);
    // And from inside an event: the recorder objects to one within another.
    stage.seen.bytes_hook = [&](Seen& seen) {
        if (seen.reads > 1) return;
        if (!seen.sending) stage.seen.send(seen, "more");
        stage.io.wake();
        if (!seen.close_called) stage.io.finish(seen.index);
    };
    stage.seen.sent_hook = [&](Seen& seen) {
        if (seen.sents == 2) stage.seen.close(seen, CloseMode::orderly);
    };
    ASSERT_EQ(one.peer.write(as_bytes("again")), 5u);
    EXPECT_TRUE(stage.until([&] { return one.seen->reads > 0 && two.seen->closes == 1; }));
    stage.seen.bytes_hook = nullptr;
    stage.close_all();
}

// ------------------------------------------------------------------------------------------- C2
TYPED_TEST_P(IoContract, C2_BytesAreWritableWithRoomAroundThem) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    auto two = stage.join();
    unsigned read_behind = 0;
    stage.seen.raw_bytes_hook = [&](std::span<uint8_t> bytes) {
        std::fill(bytes.data() - kReceiveFrontBytes, bytes.data() + bytes.size(), uint8_t{0xaa});
        for (size_t i = 0; i < kReceivePadBytes; ++i)
            read_behind += *(bytes.data() + bytes.size() + i);
    };
    std::string expected_one, expected_two;
    for (uint32_t round = 0; round < 20; ++round) {
        const std::string text = pattern(round, size_t{1} << (round % 18));
        expected_one += text;
        expected_two += text;
        ASSERT_TRUE(stage.peer_writes(one.peer, text));
        ASSERT_TRUE(stage.peer_writes(two.peer, text));
        ASSERT_TRUE(stage.until([&] {
            return one.seen->bytes.size() >= expected_one.size() &&
                   two.seen->bytes.size() >= expected_two.size();
        }));
    }
    EXPECT_TRUE(one.seen->bytes == expected_one);
    EXPECT_TRUE(two.seen->bytes == expected_two);
    EXPECT_GE(read_behind, 0u);
    stage.close_all();
}

TYPED_TEST_P(IoContract, C2_BytesArriveWholeAndInOrder) {
    Stage<TypeParam> stage;
    stage.listen();
    auto one = stage.join();
    const std::string text = pattern(1, 3 << 20);
    std::string_view rest = text;
    uint32_t piece = 1;
    while (!rest.empty()) {
        const std::string_view head = rest.substr(0, piece % 70'001);
        ASSERT_TRUE(stage.peer_writes(one.peer, head));
        rest.remove_prefix(head.size());
        piece = piece * 7 + 1;
    }
    one.peer.finish();
    EXPECT_TRUE(stage.until([&] { return one.seen->ends == 1; }));
    EXPECT_EQ(one.seen->end_error, 0);
    EXPECT_EQ(one.seen->bytes.size(), text.size());
    EXPECT_TRUE(one.seen->bytes == text);
    stage.close_all();
}

}  // namespace pulse::test
