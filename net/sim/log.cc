// The lines of a trace, and the rules that were broken.
#include "net/sim/log.h"

#include <cinttypes>

namespace pulse {

void SimLog::print(Nanos at, std::string_view event, uint64_t first, uint64_t second) {
    std::fprintf(trace_, "%" PRId64 ".%09" PRId64 " %.*s %" PRIu64 " %" PRIu64 "\n", at / kSecond,
                 at % kSecond, static_cast<int>(event.size()), event.data(), first, second);
}

void SimLog::broken(Nanos at, std::string_view rule, std::string what) {
    note(at, rule, ++violations_);
    if (trace_ != nullptr) std::fprintf(trace_, "  ^ broken: %s\n", what.c_str());
    if (kept_.size() < kViolationsKept) kept_.push_back({at, std::string(rule), std::move(what)});
}

}  // namespace pulse
