// The backend contract: connections that are held off (C9).
#pragma once

#include <string>

#include "tests/net/io/contract/suite.h"

namespace pulse::test {

// ------------------------------------------------------------------------------------------- C9
TYPED_TEST_P(IoContract, C9_NothingOfAConnectionThatIsHeldOffIsDelivered) {
    Stage<TypeParam> stage;
    stage.listen();
    auto held = stage.join();
    auto free = stage.join();
    stage.seen.bytes_hook = [&](Seen& seen) {
        if (&seen == held.seen && !stage.io.is_held_off(seen.index)) stage.io.hold_off(seen.index);
    };
    const std::string text = pattern(1, 300'000);
    ASSERT_EQ(held.peer.write(as_bytes("x")), 1u);
    ASSERT_TRUE(stage.until([&] { return held.seen->bytes == "x"; }));
    EXPECT_TRUE(stage.io.is_held_off(held.seen->index));
    std::string_view left = text;
    for (int turns = 0; turns < 50; ++turns) {
        left.remove_prefix(held.peer.write(as_bytes(left)));
        stage.turn();
    }
    const bool all_written = left.empty();
    if (all_written) held.peer.finish();
    // Others are delivered, sends go on, and C8 does not wait for it.
    const Nanos before = stage.io.now();
    ASSERT_EQ(free.peer.write(as_bytes("y")), 1u);
    ASSERT_TRUE(stage.until([&] { return free.seen->bytes == "y"; }));
    stage.seen.send(*held.seen, "answer");
    std::string answer;
    ASSERT_TRUE(stage.peer_reads(held.peer, answer, 6));
    EXPECT_TRUE(stage.until([&] { return stage.io.drained_until() > before; }));
    EXPECT_EQ(held.seen->bytes, "x");
    EXPECT_EQ(held.seen->ends, 0);
    // Everything is still there, in order, and the end behind it.
    stage.seen.bytes_hook = nullptr;
    stage.io.resume(held.seen->index);
    EXPECT_FALSE(stage.io.is_held_off(held.seen->index));
    if (!all_written) {
        ASSERT_TRUE(stage.peer_writes(held.peer, left));
        held.peer.finish();
    }
    EXPECT_TRUE(stage.until([&] { return held.seen->ends == 1; }));
    EXPECT_EQ(held.seen->bytes, "x" + text);
    EXPECT_EQ(held.seen->end_error, 0);
    stage.close_all();
}

TYPED_TEST_P(IoContract, C9_AConnectionMayBeClosedWhileItIsHeldOff) {
    Stage<TypeParam> stage;
    stage.listen();
    for (const CloseMode mode : {CloseMode::orderly, CloseMode::reset}) {
        auto one = stage.join();
        stage.seen.bytes_hook = [&](Seen& seen) { stage.io.hold_off(seen.index); };
        ASSERT_EQ(one.peer.write(as_bytes("x")), 1u);
        ASSERT_TRUE(stage.until([&] { return one.seen->bytes == "x"; }));
        one.peer.write(as_bytes("more"));
        stage.settle(5 * kMillisecond);
        stage.seen.close(*one.seen, mode);
        EXPECT_TRUE(stage.until([&] { return one.seen->closes == 1; }));
        stage.seen.bytes_hook = nullptr;
        // The place is used again, and is not held off.
        auto next = stage.join();
        EXPECT_FALSE(stage.io.is_held_off(next.seen->index));
        ASSERT_EQ(next.peer.write(as_bytes("z")), 1u);
        EXPECT_TRUE(stage.until([&] { return next.seen->bytes == "z"; }));
    }
    stage.close_all();
}

}  // namespace pulse::test
