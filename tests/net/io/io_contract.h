// The backend contract (net/io/io_backend.h) as a suite: a test, or a few, per sentence, the
// sentence in the test's name, and a file of tests/net/io/contract/ for each group of sentences. A
// backend joins with a World and a file of its own, BACKEND_contract_thread_test.cc (the suite
// crosses threads where it wakes, so it runs under ThreadSanitizer too):
//
//     #include "tests/net/io/io_contract.h"
//     INSTANTIATE_TYPED_TEST_SUITE_P(Epoll, IoContract, EpollWorld);
//
// A World is a backend and whatever is at the other end of it. Nothing in it may block for longer
// than a test can wait, and nothing needs another thread: the test polls, and drives
// the peers itself.
//
//     struct World {
//         using Io = ...;    // the backend
//         using Peer = ...;  // the far end of a connection; movable; closes when destroyed
//         using PeerListener = ...;  // takes connects of ours: SocketAddress address();
//                                    // optional<Peer> accept()
//         static constexpr bool kThreads;  // wake() may come from another thread
//         World(Connection* records, uint32_t places);  // the backend for these records
//         Io& io();
//         Nanos stall(Nanos);              // time passes without a poll; the time after it
//         ListenAddress free_address();    // another one each time
//         ListenAddress taken_address();   // listen() must fail here
//         SocketAddress dead_address();    // a connect is refused here
//         SocketAddress source_address();  // connects may come from here, whatever the port
//         Peer connect(const SocketAddress&);  // begins; some polls later it is known what became
//         PeerListener open_listener();
//         void exhaust();                  // the next accept finds the descriptor table full
//         void relieve();                  // and no longer
//     };
//     struct Peer {
//         size_t write(std::span<const uint8_t>);  // as many as fit now
//         void read(std::string& into, size_t most = SIZE_MAX);  // appends what is there now
//         bool ended();           // a read has met our FIN
//         IoError error();        // ECONNRESET, ECONNREFUSED: what a write or a read has met
//         void finish();          // FIN
//         void reset();           // RST
//         Nanos arrived_at();     // when all that was written (and FIN, RST) had reached the
//                                 // backend's socket, or a little later; kNever as long as some
//                                 // is on its way
//         SocketAddress local();  // whom the backend sees
//     };
#pragma once

#include "tests/net/io/contract/accepting.h"
#include "tests/net/io/contract/closing.h"
#include "tests/net/io/contract/connecting.h"
#include "tests/net/io/contract/delivery.h"
#include "tests/net/io/contract/facts.h"
#include "tests/net/io/contract/holding.h"
#include "tests/net/io/contract/sending.h"
#include "tests/net/io/contract/time.h"
#include "tests/net/io/contract/waiting.h"

namespace pulse::test {

REGISTER_TYPED_TEST_SUITE_P(
    IoContract, C1_NoOperationCallsTheHandlerBack, C2_BytesAreWritableWithRoomAroundThem,
    C2_BytesArriveWholeAndInOrder, C3_OnSentComesOnceAndAfterTheLastByteWasTaken,
    C3_ShortWritesAreHiddenBothWaysAtOnce, C3_TheNextSendMayStartInOnSent,
    C3_OnSentComesWithAnErrorWhenThePeerIsGone, C3_ASendThatMeetsTheResetLeavesOnEndItsError,
    C3_APeerThatFinishedIsStillSentTo, Finish_FollowsWhatWasSent, Finish_LeavesTheInputOpen,
    C4_OnClosedIsTheLastEventAndNotFromInsideClose, C4_CloseMayComeFromEveryEvent,
    C4_ClosingTheOthersOfTheSameBatch, C4_APlaceIsUsedAgainAfterOnClosed,
    C4_NothingOfTheLastOwnerReachesTheNext, C5_NothingButOnClosedAfterClose,
    C5_ASendInFlightPinsItsBytesUntilOnClosed, Close_InOrderDeliversWhatTheKernelHasTaken,
    Close_WithResetTellsThePeerAtOnce, Close_AfterFinishAndOnEndLosesNothing,
    C6_PollReturnsByItsDeadlineAndSleepsUntilThen, C6_AnEventEndsTheSleep,
    C6_ADeadlineInThePastStillHarvests, C6_SilenceCostsNoPolls, C6_AWakeBeforePollIsNotLost,
    C6_AWakeFromInsideAnEventEndsTheNextPoll, C6_AfterManyWakesPollsSleepAgain,
    C6_NoWakeFromAnotherThreadIsLost, C7_NowMovesOnlyInsidePoll,
    C7_NowWasReadAfterWhatTheEventReports, WokeAt_IsAfterTheWaitAndBeforeTheWork,
    C8_WhatArrivedBeforeItWasDelivered, C8_HoldsForMoreThanABatch, C8_MovesOnWhereEveryBatchIsFull,
    C8_AFloodingConnectionDoesNotHoldItBack, C8_SilenceLetsItPass,
    Listen_ReportsTheListenerAndThePeersAddress,
    Listen_AnErrorNamesTheAddressAndNothingIsListenedOn,
    Listen_AnEmptyListStopsAcceptingAndKeepsWhatIsThere, Listen_AListenerIsClosedAndTheOthersGoOn,
    Listen_MayStopFromInsideOnAccept, Attach_DeliversWhatWasAlreadyThere,
    Attach_AThousandTalkAndLeave, Refuse_SendsTheMessageAndClosesInOrder,
    Refuse_ManyAtOnceAndWithoutAMessage, Exhausted_RefusesThroughTheSpareAndDoesNotSpin,
    Connect_SucceedsAndIsAsIfAttached, Connect_ARefusalIsReportedOnceAndOnlyCloseFollows,
    Connect_MayBeClosedBeforeItsAnswer, C10_ARestLastsUntilItsEndAndWhatArrivesIsKept,
    C10_WhatWasAskedForBeforeIsOnItsWay, C10_AWakeDuringARestEndsTheNextPoll,
    Submit_LeavesNothingForTheNextPoll,
    C9_NothingOfAConnectionThatIsHeldOffIsDelivered, C9_AConnectionMayBeClosedWhileItIsHeldOff,
    SendProgress_ReportsWhatThePeerHasAcknowledged, Facts_AreThePeersAddressAndTheBytesOfBothWays,
    Facts_TellWhatThePeersHostHasNotAcknowledged, Facts_AreThereAfterAResetAndDoNotCountFins,
    Counters_CountPolls);

}  // namespace pulse::test
