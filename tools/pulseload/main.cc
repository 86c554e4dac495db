// pulseload: holds very many connections to a server, beats on each of them, lets some fall silent,
// and reports how the server answered, which it evicted, and whether the run is valid.
#include <atomic>
#include <csignal>
#include <optional>
#include <string>
#include <string_view>

#include "net/server/descriptors.h"
#include "tools/pulseload/campaigns.h"

namespace pulse::load {
namespace {

std::atomic<int> interrupted{0};

// Reports are passed on: the values of headers, which may be secrets, are not in them.
std::string command_line(int argc, const char* const* argv) {
    std::string line;
    for (int i = 0; i < argc; ++i) {
        std::string word = argv[i];
        const bool is_value = i > 0 && std::string_view(argv[i - 1]) == "--header";
        if (is_value || word.starts_with("--header="))
            word = word.substr(0, word.find(':')) + ": ...";
        line += (i == 0 ? "" : " ") + word;
    }
    return line;
}

// The first one ends the run with all it has; the next has its usual effect.
void catch_signals() {
    signal(SIGPIPE, SIG_IGN);
    struct sigaction action{};
    action.sa_handler = [](int number) { interrupted = number; };
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
        struct sigaction before{};
        sigaction(number, nullptr, &before);
        if (before.sa_handler != SIG_IGN) sigaction(number, &action, nullptr);  // nohup
    }
}

}  // namespace
}  // namespace pulse::load

int main(int argc, char** argv) {
    using namespace pulse::load;
    signal(SIGXFSZ, SIG_IGN);  // a file at its size limit is a failed write, which is reported
    pulse::open_standard_descriptors();
    pulse::unblock_stderr();
    int exit_code = 0;
    std::optional<LoadOptions> options = parse_options(argc, argv, exit_code);
    if (!options) return exit_code;
    options->command_line = command_line(argc, argv);
    catch_signals();
    if (!options->find_max.empty()) return run_search(*options, interrupted);
    if (options->repeat > 0) return run_rounds(*options, interrupted);
    return run_single(*options, interrupted);
}
